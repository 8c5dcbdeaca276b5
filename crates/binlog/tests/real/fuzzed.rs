//! Tests with random damage to the stream and the files of real servers: the reader accepts or
//! refuses them, and never returns other data.
//!
//! `BACKSTOP_TEST_ROUNDS` sets the number of rounds, `BACKSTOP_TEST_SEED` repeats a run.

use std::io::Cursor;
use std::sync::{Arc, Mutex};

use backstop_binlog::{
    AtBinlogEnd, BinlogFile, ConnectOptions, SegmentFolder, Segmenter, Session, segment_commits,
    transaction_changes,
};
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::ids::Endpoint;
use backstop_types::login::{TlsMode, TlsSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::random::Random;
use crate::support::*;

/// Returns the number of rounds: `BACKSTOP_TEST_ROUNDS` hundreds, else as many as fit into `make
/// test`.
fn rounds() -> usize {
    std::env::var("BACKSTOP_TEST_ROUNDS")
        .map_or(300, |rounds| 100 * rounds.parse::<usize>().expect("a number"))
}

/// Returns [`ALL_KINDS`] without the large ones.
fn small_kinds() -> Vec<&'static str> {
    ALL_KINDS.iter().copied().filter(|sql| !sql.contains("4000000")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_stream_yields_no_other_bytes() {
    let shard = TestShard::start(ShardLayout::single().option("binlog_checksum = CRC32")).await;
    let primary = shard.primary();
    primary.run(&small_kinds()).await;
    let (of, mut dice) = (uuid(primary).await, Random::new());
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        SegmentFolder::new(path)
    };
    let mut sound = folder("sound");
    all_of(&shard, primary, &mut sound).await;
    let sound = files(&sound, of);
    let sent = recorded(&shard).await;
    assert!(sent.len() > sound.iter().map(|(_, bytes)| bytes.len()).sum::<usize>());

    let (mut refused, mut whole) = (0, 0);
    for round in 0..rounds() {
        let damaged = if round == 0 { sent.clone() } else { damage(&sent, &mut dice) };
        let connect = ConnectOptions { endpoint: played(damaged).await, ..in_the_clear(&shard) };
        let mut sink = folder(&round.to_string());
        let mut segmenter = Segmenter::new(of, Default::default());
        let none = Default::default();
        let end = read(&connect, &dump(&none, AtBinlogEnd::Stop), &mut segmenter, &mut sink, |_| false).await;
        match end {
            Ok(_) => whole += 1,
            Err(_) => refused += 1,
        }
        assert!(round > 0 || whole == 1, "what was not damaged is not read: {end:?}");
        let _ = segmenter.cut(&mut sink).await;
        if !sink.sealed().is_empty() {
            is_part_of(&files(&sink, of), &sound);
        }
        let _ = std::fs::remove_dir_all(dir.path().join(round.to_string()));
    }
    assert!(refused > rounds() / 2, "{refused} of {} damaged streams were refused", rounds());
}

/// Checks that the found bytes are those the server wrote, from the beginning of each file.
fn is_part_of(found: &[(String, Vec<u8>)], sound: &[(String, Vec<u8>)]) {
    for (name, bytes) in found {
        let own = sound.iter().find(|(own, _)| own == name).map(|(_, own)| own);
        assert!(
            own.is_some_and(|own| own.starts_with(bytes)),
            "{name}: damage was taken for the server's bytes"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_file_without_checksums_is_read_or_refused() {
    let shard = TestShard::start(ShardLayout::single().option("binlog_checksum = NONE")).await;
    let primary = shard.primary();
    primary.run(&small_kinds()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = SegmentFolder::new(dir.path());
    all_of(&shard, primary, &mut sink).await;
    let mut dice = Random::new();
    let files = files(&sink, uuid(primary).await);
    let mut refused = 0;
    for round in 0..rounds() * 10 {
        let (_, file) = &files[round % files.len()];
        let bytes = damage(file, &mut dice);
        let end = bytes.len() as u64;
        let found = BinlogFile::open(Cursor::new(&bytes)).and_then(|mut file| file.transactions(4));
        let listed = segment_commits(&bytes[..], 0, end).await;
        let mut told = 0;
        let searched = transaction_changes(&bytes[..], 0, end, &mut |_| told += 1);
        assert!(told <= bytes.len() / 19, "{told} transactions in {end} bytes");
        refused += usize::from(found.is_err() || listed.is_err() || searched.is_err());
    }
    assert!(refused > rounds(), "{refused} of {} damaged files were refused", rounds() * 10);
}

/// Makes one to three changes: flips a bit, changes a byte, removes, doubles, moves or inserts
/// bytes, or truncates the end.
fn damage(sound: &[u8], dice: &mut Random) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for _ in 0..1 + dice.roll() % 3 {
        if bytes.is_empty() {
            break;
        }
        let at = dice.roll() as usize % bytes.len();
        let end = bytes.len().min(at + 1 + dice.roll() as usize % 60);
        match dice.roll() % 7 {
            0 => bytes[at] ^= 1 << (dice.roll() % 8),
            1 => bytes[at] = dice.roll() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => bytes[at..end].fill_with(|| dice.roll() as u8),
            5 => {
                let to = dice.roll() as usize % bytes.len();
                let moved: Vec<u8> = bytes.drain(at..end).collect();
                let to = to.min(bytes.len());
                bytes.splice(to..to, moved);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn in_the_clear(shard: &TestShard) -> ConnectOptions {
    ConnectOptions { tls: TlsSettings { mode: TlsMode::Off, ca: None }, ..connect(shard, shard.primary()) }
}

/// Returns all bytes that the primary sends in a session that reads its whole binlog.
async fn recorded(shard: &TestShard) -> Vec<u8> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = Arc::new(Mutex::new(Vec::new()));
    let (record, source) = (Arc::clone(&said), shard.primary().endpoint());
    let recorder = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect((&*source.host, source.port)).await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let asks = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            record.lock().unwrap().extend(&bytes[..count]);
            if to_client.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
        asks.abort();
    });
    let connect = ConnectOptions { endpoint: Endpoint::new("127.0.0.1", port), ..in_the_clear(shard) };
    let none = Default::default();
    let (mut stream, acknowledger) =
        Session::open(&connect).await.unwrap().dump(&dump(&none, AtBinlogEnd::Stop)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, mut segmenter) =
        (SegmentFolder::new(dir.path()), Segmenter::new(uuid(shard.primary()).await, none));
    while segmenter.step(&mut stream, &mut sink, SECOND).await.unwrap() != backstop_binlog::SegmenterStep::End
    {
    }
    drop((stream, acknowledger));
    recorder.await.unwrap();
    said.lock().unwrap().clone()
}

/// Returns the address of a server that sends exactly these bytes for any request, and disconnects.
async fn played(said: Vec<u8>) -> Endpoint {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut asks, mut answers) = client.into_split();
        let heard = tokio::spawn(async move { tokio::io::copy(&mut asks, &mut tokio::io::sink()).await });
        let _ = answers.write_all(&said).await;
        let _ = answers.shutdown().await;
        // Read everything before closing: a socket closed with unread data discards what it has
        // sent.
        let _ = heard.await;
    });
    Endpoint::new("127.0.0.1", port)
}
