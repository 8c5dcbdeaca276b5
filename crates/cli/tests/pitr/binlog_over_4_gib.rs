//! A binlog file of more than 4 GiB, made by one transaction: positions in events do not suffice
//! for it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use backstop_testkit::{ShardLayout, TestMember, TestShard};
use rustix::process::Signal;
use tokio::io::AsyncReadExt;

use crate::support::program::{Backstop, until};
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents, held, reader, uuid};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);
/// Number of rows of 64 MiB.
const ROWS: u32 = 68;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes 20 GB: cargo test … --test pitr -- --ignored beyond"]
async fn binlog_beyond_4_gib_is_archived_and_replayed() {
    let layout =
        ShardLayout::single().option("max_allowed_packet = 256M").option("binlog_row_image = MINIMAL");
    let shard = TestShard::start(layout).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    // Rows of `big` are in the binlog only.
    primary.run(&["CREATE DATABASE w", "CREATE TABLE w.big (t LONGTEXT) ENGINE = BLACKHOLE"]).await;
    primary.run(&["CREATE TABLE w.t (id INT PRIMARY KEY)", "FLUSH BINARY LOGS"]).await;
    let mut root = primary.root().await;
    let row = "INSERT INTO w.big VALUES (REPEAT('0123456789abcdef', 4194304))";
    root.run_within("START TRANSACTION", STATEMENT_TIMEOUT).await.unwrap();
    for _ in 0..ROWS {
        root.run_within(row, STATEMENT_TIMEOUT).await.unwrap();
    }
    root.run_within("INSERT INTO w.t VALUES (1)", STATEMENT_TIMEOUT).await.unwrap();
    root.run_within("COMMIT", STATEMENT_TIMEOUT).await.unwrap();
    primary.run(&["INSERT INTO w.t VALUES (2)"]).await;

    // The archiver is killed in the middle of the file.
    let archiver = backstop.spawn(ARCHIVE, None);
    let of_shard = backstop.work.join("orders");
    let spooled = || {
        let repositories = std::fs::read_dir(&of_shard).into_iter().flatten().flatten();
        let spools = repositories.map(|repository| repository.path().join("spool"));
        let files = spools.flat_map(|spool| std::fs::read_dir(spool).into_iter().flatten().flatten());
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>()
    };
    until(Duration::from_secs(120), || archiver.told(), || spooled() > 1 << 30).await;
    archiver.signal(Signal::KILL);
    archiver.end().await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert!(compared(&backstop, primary).await > 1 << 32, "no file is beyond 4 GiB");

    let rebuilt = RecoveredServer::at(shard.base().join("r"));
    rebuilt.recover(&backstop, "--to latest --standalone").await;
    assert_eq!(rebuilt.held().await, primary.gtid_executed().await);
    assert_eq!(rebuilt.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM w.t").await, "1,2");
}

/// Compares the archived files with the server's files, except for the first event of each. Returns
/// the highest offset.
async fn compared(backstop: &Backstop, member: &TestMember) -> u64 {
    const FIRST_EVENTS: u64 = 126;
    let (of, reader, mut end) = (uuid(member).await, reader(backstop).await, 0);
    for segment in contents(backstop).await.segments {
        assert_eq!(segment.source, of);
        let mut own = File::open(member.datadir().join(&segment.file)).unwrap();
        own.seek(SeekFrom::Start(segment.start)).unwrap();
        let mut archived = reader.open(&segment).await.unwrap();
        let (mut at, mut ours, mut theirs) = (segment.start, vec![0; 1 << 20], vec![0; 1 << 20]);
        while at < segment.end {
            let count = usize::try_from((segment.end - at).min(1 << 20)).unwrap();
            archived.read_exact(&mut ours[..count]).await.unwrap();
            own.read_exact(&mut theirs[..count]).unwrap();
            let from = usize::try_from(FIRST_EVENTS.saturating_sub(at)).unwrap().min(count);
            assert!(ours[from..count] == theirs[from..count], "{} differs behind {at}", segment.file);
            at += count as u64;
        }
        end = end.max(segment.end);
    }
    end
}
