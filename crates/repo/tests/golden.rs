//! Reads a repository of each released format version: `tests/golden/` contains them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_binlog::Segment;
use backstop_host::Host;
use backstop_repo::{ArchiveWriter, RepoKey, Repository, VerifyDepth};
use backstop_types::archive::SegmentState;
use backstop_types::ids::BackupId;
use chrono::DateTime;
use tokio::io::AsyncReadExt;

use support::binlog::{SERVER_B, make_noisy_segment, seal_noise, set, uuid};
use support::{Bench, Sample, noise};

fn home(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(kind)
}

fn kinds() -> [(&'static str, Option<RepoKey>); 2] {
    [("plain", None), ("encrypted", Some(support::key(0x42)))]
}

/// Returns the contents of the golden repositories: two backups, the second an increment.
fn contents() -> [BTreeMap<String, Vec<u8>>; 2] {
    let text: Vec<u8> = (0..9000).flat_map(|timeline| format!("row {timeline}\n").into_bytes()).collect();
    let mut sparse = vec![0; 200_000];
    sparse[100_000..100_007].copy_from_slice(b"present");
    let first = BTreeMap::from([
        ("db/empty".to_owned(), Vec::new()),
        ("db/noise.ibd".to_owned(), noise(11, 40_000)),
        ("db/text.ibd".to_owned(), text),
        ("sparse.ibd".to_owned(), sparse),
    ]);
    let mut second = first.clone();
    second.remove("db/empty");
    second.get_mut("db/text.ibd").unwrap()[50_000..50_007].copy_from_slice(b"CHANGED");
    second.insert("db/new.ibd".to_owned(), b"new".to_vec());
    [first, second]
}

fn sample(files: &BTreeMap<String, Vec<u8>>) -> Sample {
    let sample = Sample::new();
    for (path, bytes) in files {
        sample.write(path, bytes);
    }
    sample
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the golden repositories again: only for a format that was never released"]
async fn golden_repositories_are_written() {
    for (kind, key) in kinds() {
        let home = home(kind);
        drop(std::fs::remove_dir_all(&home));
        let repository =
            Repository::open(&support::location(&home), key.as_ref(), Host::system()).await.unwrap();
        let bench = Bench { repository, dir: None };
        let mut parent = None;
        for files in contents() {
            let entry = bench.backup(&sample(&files), parent.as_ref()).await;
            parent = Some(bench.reader().manifest(&entry.facts.backup_id).await.unwrap());
        }
    }
}

/// Writes the contents of the golden archives: a timeline of sealed segments, most of them in an
/// index, and a second timeline that leaves it, with a tail.
async fn archived(writer: &ArchiveWriter) {
    for number in 1..=130 {
        seal_noise(writer, number, number, SIZE).await;
    }
    let begun_at = DateTime::from_timestamp(1_795_000_500, 0).unwrap();
    writer.begin_timeline(uuid(SERVER_B), &set("A:1-120"), &set("A:121-130"), begun_at).await.unwrap();
    let (segment, bytes) = make_noisy_segment(121, 123, SIZE);
    let segment = Segment {
        source: uuid(SERVER_B),
        file: "other.000001".into(),
        start: 0,
        end: 3 * SIZE,
        gtids: set("B:1-3"),
        ..segment
    };
    writer.put_tail(&segment, &bytes).await.unwrap();
}

/// Size of a transaction in bytes.
const SIZE: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the golden archives again: only for a format that was never released"]
async fn golden_archives_are_written() {
    for (kind, key) in kinds() {
        let home = home(&format!("{kind}-archive"));
        drop(std::fs::remove_dir_all(&home));
        let repository =
            Repository::open(&support::location(&home), key.as_ref(), Host::system()).await.unwrap();
        let writer = repository.acquire_archive_lease(&support::shard()).await.unwrap();
        archived(&writer).await;
        writer.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_archives_are_read() {
    for (kind, key) in kinds() {
        let home = home(&format!("{kind}-archive"));
        let repository =
            Repository::open(&support::location(&home), key.as_ref(), Host::system()).await.unwrap();
        let reader = repository.archive(&support::shard());
        let archive = reader.contents().await.unwrap();
        let [old, new] = &archive.timelines[..] else { panic!("{kind}: {:?}", archive.timelines) };
        assert_eq!(
            (new.parent, new.source, &new.common),
            (Some(old.number), uuid(SERVER_B), &set("A:1-120"))
        );
        assert_eq!(archive.held(1), Some(set("A:1-130")), "{kind}");
        assert_eq!(archive.held(2), Some(set("A:1-120,B:1-3")), "{kind}");
        assert_eq!(archive.segments.len(), 131);
        for (at, segment) in archive.segments.iter().enumerate() {
            let number = at as u64 + 1;
            let tail = segment.state == SegmentState::Tail;
            assert_eq!((segment.timeline, tail), if number <= 130 { (1, false) } else { (2, true) });
            let mut bytes = Vec::new();
            reader.open(segment).await.unwrap().read_to_end(&mut bytes).await.unwrap();
            let (from, to) = if tail { (121, 123) } else { (number, number) };
            let expected = make_noisy_segment(from, to, SIZE).1;
            assert!(bytes == expected, "{kind} {}", segment.object);
        }
        // Not its content, which is no binlog.
        let report = reader.verify(VerifyDepth::Objects, &|_| {}).await.unwrap();
        assert_eq!((report.damaged, report.segments), (vec![], 131), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_repositories_are_read() {
    for (kind, key) in kinds() {
        let repository =
            Repository::open(&support::location(&home(kind)), key.as_ref(), Host::system()).await.unwrap();
        let bench = Bench { repository, dir: None };
        let ids: Vec<BackupId> =
            bench.reader().catalog().await.unwrap().into_iter().map(|entry| entry.facts.backup_id).collect();
        assert_eq!(ids.len(), 2, "{kind}");
        for (id, files) in ids.iter().zip(contents()) {
            assert!(bench.restored(id).await == files, "{kind} {id}");
        }
        let report = bench.reader().verify(VerifyDepth::Content, &|_| {}).await.unwrap();
        assert!(report.damaged.is_empty() && report.unreferenced == 0, "{kind}: {report:?}");
    }
}
