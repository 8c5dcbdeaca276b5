//! Archive of a shard: it returns exactly the stored segments, and only one archiver can store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backstop_binlog::SegmentSource;
use backstop_host::Host;
use backstop_repo::{ArchiveReader, Location, RepoKey, Repository, VerifyDepth};
use backstop_types::archive::{ArchiverHeartbeat, SegmentHash, SegmentState};
use backstop_types::error::ErrorKind;
use backstop_types::gtid::GtidSet;
use chrono::DateTime;
use tokio::io::AsyncReadExt;

use support::binlog::{SERVER_A, SERVER_B, file, make_segment, seal, set, tail, uuid};
use support::faulty_store::{FaultyStore, StoreFault};
use support::{s3, shard};

async fn states(reader: &ArchiveReader) -> Vec<(u64, SegmentState)> {
    let segments = reader.contents().await.unwrap().segments;
    segments.iter().map(|segment| (segment.number, segment.state)).collect()
}

async fn stores_and_gives_back(location: &Location, key: Option<RepoKey>) {
    let repository = Repository::open(location, key.as_ref(), Host::system()).await.unwrap();
    let reader = repository.archive(&shard());
    assert!(reader.contents().await.unwrap().timelines.is_empty());
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    assert_eq!(writer.held().await, (None, vec![]));
    tail(&writer, 1, 2, 1000).await;
    tail(&writer, 3, 3, 1000).await;
    // A reader of the old contents follows the tail into the segment that replaces it.
    let old = repository.archive(&shard()).contents().await.unwrap().segments;
    seal(&writer, 1, 4, 1000).await;
    tail(&writer, 5, 9, 400_000).await;
    let reader = Repository::open(location, key.as_ref(), Host::system()).await.unwrap().archive(&shard());
    assert_eq!(states(&reader).await, [(3, SegmentState::Sealed), (6, SegmentState::Tail)]);
    let mut third = Vec::new();
    reader.open(&old[1]).await.unwrap().read_to_end(&mut third).await.unwrap();
    assert!(third == make_segment(3, 3, 1000).1);
    assert!(reader.contents().await.unwrap().damaged.is_empty());
    assert!(reader.checked().await.unwrap() == reader.contents().await.unwrap());

    // It ends without sealing; another archiver builds a segment from the tail.
    writer.release().await.unwrap();
    let repository = Repository::open(location, key.as_ref(), Host::system()).await.unwrap();
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    let (held, last) = writer.held().await;
    assert_eq!((held, last.len(), last[0].end), (Some(set("A:1-9")), 1, 3_600_000));
    writer.seal_tail().await.unwrap();
    assert_eq!(states(&reader).await, [(3, SegmentState::Sealed), (6, SegmentState::Sealed)]);
    let timeline = reader.timeline(1);
    let segments = timeline.segments().await.unwrap();
    assert_eq!(segments[1], make_segment(5, 9, 400_000).0);
    let mut bytes = Vec::new();
    timeline.open(&segments[1]).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    assert!(bytes == make_segment(5, 9, 400_000).1);
    // The lease of a backup is independent.
    repository.acquire_lease(&shard(), "backup").await.unwrap().release().await.unwrap();
    writer.release().await.unwrap();
    assert_eq!(repository.shards().await.unwrap(), [shard()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_stores_and_returns_an_archive() {
    let dir = support::scratch();
    stores_and_gives_back(&support::location(dir.path()), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_directory_stores_and_returns_an_archive() {
    let dir = support::scratch();
    stores_and_gives_back(&support::location(dir.path()), Some(support::key(1))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_bucket_stores_and_returns_an_archive() {
    let Some(server) = s3() else { return };
    stores_and_gives_back(&server.location("archive"), Some(support::key(2))).await;
}

async fn bench() -> (Arc<FaultyStore>, Repository) {
    let store = Arc::new(FaultyStore::honest());
    let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
    (store, repository)
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_archiver_stores_nothing_after_waking_up() {
    let (store, repository) = bench().await;
    let sleeper = repository.acquire_archive_lease(&shard()).await.unwrap();
    tail(&sleeper, 1, 2, 100).await;
    store.obey(|operation, key| {
        let asleep = operation == "put" && key.ends_with(&format!("archive/heartbeats/{:020}", 1));
        if asleep { StoreFault::Loses } else { StoreFault::Honest }
    });
    let next = repository.acquire_archive_lease(&shard()).await.unwrap();
    // The superseded archiver has stored nothing since, so it must not acknowledge.
    let (segment, bytes) = make_segment(3, 3, 100);
    assert_eq!(sleeper.put_tail(&segment, &bytes).await.unwrap_err().kind, ErrorKind::Held);
    tail(&next, 3, 4, 100).await;
    seal(&next, 1, 4, 100).await;
    for _ in 0..2 {
        let error = sleeper.put_tail(&segment, &bytes).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Held, "{error}");
    }
    let common = set("A:1");
    let now = DateTime::UNIX_EPOCH;
    assert_eq!(
        sleeper.begin_timeline(uuid(SERVER_B), &common, &set("A:2"), now).await.unwrap_err().kind,
        ErrorKind::Held
    );
    assert_eq!(sleeper.release().await.unwrap_err().kind, ErrorKind::Held);
    let contents = repository.archive(&shard()).contents().await.unwrap();
    assert_eq!((contents.segments.len(), contents.timelines.len()), (1, 1));
    assert!(contents.damaged.is_empty(), "{:?}", contents.damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_archiver_is_refused_while_the_first_runs() {
    let (_, repository) = bench().await;
    let _first = repository.acquire_archive_lease(&shard()).await.unwrap();
    let error = repository.acquire_archive_lease(&shard()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Held, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_put_is_repeated_and_stored_once() {
    let (store, repository) = bench().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    tail(&writer, 1, 1, 100).await;
    let (segment, bytes) = make_segment(2, 2, 100);
    store.obey(|operation, key| match operation {
        "put" if key.contains("/journal/") => StoreFault::Fails,
        _ => StoreFault::Honest,
    });
    assert_eq!(writer.put_tail(&segment, &bytes).await.unwrap_err().kind, ErrorKind::Store);
    // The entry was stored, but the answer was a conflict.
    let once = AtomicBool::new(true);
    store.obey(move |operation, key| match operation {
        "put" if key.contains("/journal/") && once.swap(false, Ordering::Relaxed) => StoreFault::Repeats,
        _ => StoreFault::Honest,
    });
    writer.put_tail(&segment, &bytes).await.unwrap();
    tail(&writer, 3, 3, 100).await;
    let reader = repository.archive(&shard());
    assert_eq!(reader.contents().await.unwrap().segments.len(), 3);
    assert!(file(&reader).await == make_segment(1, 3, 100).1);
}

#[tokio::test(flavor = "multi_thread")]
async fn segment_with_other_bytes_is_not_stored() {
    let (_, repository) = bench().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    let (segment, mut bytes) = make_segment(1, 3, 100);
    bytes[7] ^= 1;
    assert!(writer.put_tail(&segment, &bytes).await.is_err());
    assert!(writer.seal(&segment, &bytes).await.is_err());
    assert!(repository.archive(&shard()).contents().await.unwrap().segments.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_segments_are_read_in_few_requests() {
    let (store, repository) = bench().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=700 {
        tail(&writer, number, number, 10).await;
        if number < 700 {
            seal(&writer, number, number, 10).await;
        }
    }
    let reader = repository.archive(&shard());
    store.take_counts();
    let contents = reader.contents().await.unwrap();
    let counts = store.take_counts();
    assert!(counts["get"] < 400 && counts["list"] <= 5, "{counts:?}");
    assert!(contents.damaged.is_empty(), "{:?}", contents.damaged);
    assert_eq!(contents.held(1), Some(set("A:1-700")));
    assert_eq!(contents, writer.contents().await);
    assert!(file(&reader).await == make_segment(1, 700, 10).1);
    // No object is read twice.
    store.take_counts();
    reader.contents().await.unwrap();
    assert_eq!(store.take_counts().get("get").copied().unwrap_or(0), 0);
    drop(writer);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_timeline_records_the_transactions_left_behind() {
    let (_, repository) = bench().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    tail(&writer, 1, 5, 100).await;
    tail(&writer, 6, 7, 100).await;
    let now = DateTime::from_timestamp(1_795_001_000, 0).unwrap();
    assert_eq!(writer.begin_timeline(uuid(SERVER_B), &set("A:1-6"), &set("A:7"), now).await.unwrap(), 2);
    let (mut segment, bytes) = make_segment(1, 3, 100);
    (segment.source, segment.previous, segment.gtids) = (uuid(SERVER_B), set("A:1-6"), set("B:1-3"));
    writer.put_tail(&segment, &bytes).await.unwrap();
    let alive = ArchiverHeartbeat {
        at: now,
        source: Some(uuid(SERVER_A)),
        archived: set("A:1-6,B:1-3"),
        complete_to: Some(now),
        last_commit: None,
        trouble: None,
    };
    writer.heartbeat(&alive).await.unwrap();
    let contents = repository.archive(&shard()).contents().await.unwrap();
    assert_eq!(contents, writer.contents().await);
    assert_eq!(contents.alive, Some(alive));
    assert_eq!((contents.held(1), contents.held(2)), (Some(set("A:1-7")), Some(set("A:1-6,B:1-3"))));
    let gtids: Vec<_> = contents.history(2).into_iter().map(|stored| stored.segment.gtids).collect();
    assert_eq!(gtids, [set("A:1-5"), set("A:6"), set("B:1-3")]);
}

/// A server that has lost its binlogs begins them again under the same names.
#[tokio::test(flavor = "multi_thread")]
async fn reused_file_name_hides_no_segment() {
    let (_, repository) = bench().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    seal(&writer, 1, 4, 100).await;
    let again = |from: u64, to: u64| {
        let (segment, bytes) = make_segment(from - 4, to - 4, 100);
        let (previous, gtids) = (set(&format!("A:1-{}", from - 1)), set(&format!("A:{from}-{to}")));
        (backstop_binlog::Segment { previous, gtids, ..segment }, bytes)
    };
    let (segment, bytes) = again(5, 5);
    writer.put_tail(&segment, &bytes).await.unwrap();
    for contents in [writer.contents().await, repository.archive(&shard()).contents().await.unwrap()] {
        assert_eq!(contents.held(1), Some(set("A:1-5")));
    }
    // The sealed segment replaces the server's own tail segments only.
    let (segment, bytes) = again(5, 6);
    writer.seal(&segment, &bytes).await.unwrap();
    let reader = repository.archive(&shard());
    assert_eq!(reader.contents().await.unwrap().held(1), Some(set("A:1-6")));
    assert_eq!(states(&reader).await.len(), 2);
}

/// Each kind of damage to an object of the archive, and the report of it.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_reported_with_the_lost_transactions() {
    for deed in ["missing", "truncated", "flipped", "swapped"] {
        for encrypted in [false, true] {
            let dir = support::scratch();
            let key = encrypted.then(|| support::key(1));
            let location = support::location(dir.path());
            let repository = Repository::open(&location, key.as_ref(), Host::system()).await.unwrap();
            let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
            for number in 1..=3 {
                seal(&writer, number * 2 - 1, number * 2, 5000).await;
            }
            let contents = repository.archive(&shard()).contents().await.unwrap();
            let objects: Vec<_> =
                contents.segments.iter().map(|segment| dir.path().join(&segment.object)).collect();
            match deed {
                "missing" => std::fs::remove_file(&objects[1]).unwrap(),
                "truncated" => {
                    std::fs::write(&objects[1], &std::fs::read(&objects[1]).unwrap()[..3000]).unwrap()
                }
                "flipped" => {
                    let mut bytes = std::fs::read(&objects[1]).unwrap();
                    bytes[4000] ^= 4;
                    std::fs::write(&objects[1], bytes).unwrap();
                }
                _ => drop(std::fs::copy(&objects[0], &objects[1]).unwrap()),
            }
            let reader =
                Repository::open(&location, key.as_ref(), Host::system()).await.unwrap().archive(&shard());
            let quick = reader.verify(VerifyDepth::Objects, &|_| {}).await.unwrap();
            let report = reader.verify(VerifyDepth::Content, &|_| {}).await.unwrap();
            assert_eq!(report.damaged.len(), 1, "{deed}: {report:?}");
            assert!(deed == "flipped" || quick.damaged.len() == 1, "{deed}: {quick:?}");
            let damage = &report.damaged[0];
            assert_eq!(damage.object, contents.segments[1].object);
            assert_eq!(
                (damage.gtids.clone(), damage.committed),
                (set("A:3-4"), contents.segments[1].committed)
            );
            assert_eq!(report.segments, 3);
            // A reader gets the same error.
            let mut out = Vec::new();
            let words = match reader.open(&contents.segments[1]).await {
                Ok(mut bytes) => bytes.read_to_end(&mut out).await.unwrap_err().to_string(),
                Err(error) => error.message,
            };
            assert!(words.contains(&damage.object), "{deed}: {words}");
            let lost: GtidSet = reader.checked().await.unwrap().lost(1);
            // What each says of itself takes different space, so another one may be noticed by its size.
            let noticed = matches!(deed, "missing" | "truncated");
            assert!(deed == "swapped" || lost.is_empty() != noticed, "{deed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_entries_and_indexes_are_detected() {
    let dir = support::scratch();
    let repository = Repository::open(&support::location(dir.path()), None, Host::system()).await.unwrap();
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=300 {
        seal(&writer, number, number, 10).await;
    }
    let at = |part: &str| dir.path().join(format!("shards/orders/archive/{part}"));
    let fresh = || async {
        let repository =
            Repository::open(&support::location(dir.path()), None, Host::system()).await.unwrap();
        repository.archive(&shard()).contents().await.unwrap()
    };
    assert!(fresh().await.damaged.is_empty());
    let entry = std::fs::read_dir(at("journal")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let older = entry.with_file_name(format!("{:020}", entry_number(&entry) - 5));
    std::fs::remove_file(&older).unwrap();
    let damaged = fresh().await.damaged;
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert!(older.ends_with(&damaged[0].object), "{damaged:?}");
    let index = std::fs::read_dir(at("index")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    std::fs::write(&index, b"nothing").unwrap();
    let broken = fresh().await;
    assert!(broken.damaged.iter().any(|damage| index.ends_with(&damage.object)), "{:?}", broken.damaged);
    assert!(broken.segments.len() < 200);
}

fn entry_number(path: &std::path::Path) -> u64 {
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_only_dropped_segments_after_the_grace() {
    let (store, repository) = bench().await;
    let archiver = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=300 {
        seal(&archiver, number, number, 200).await;
    }
    tail(&archiver, 301, 301, 200).await;
    let reader = repository.archive(&shard());
    let all = reader.contents().await.unwrap().segments;
    let drop: std::collections::BTreeSet<u64> = all[..150].iter().map(|segment| segment.number).collect();
    let hour = std::time::Duration::from_secs(3600);
    let now = DateTime::from_timestamp(1_795_100_000, 0).unwrap();
    let writer = repository.acquire_lease(&shard(), "prune").await.unwrap();
    let plan = writer.archive_view().await.unwrap().plan(&drop, now, hour);
    assert_eq!(plan.objects, [], "{:?}", plan.objects);
    assert_eq!(repository.archive(&shard()).contents().await.unwrap().segments.len(), 301, "only a plan");
    writer.prune_archive(plan).await.unwrap();
    let left = repository.archive(&shard()).contents().await.unwrap();
    assert_eq!(left.segments, all[150..]);
    // The drop can be undone until the grace period is over.
    let late = writer.archive_view().await.unwrap().undo_plan(now + chrono::TimeDelta::hours(2), hour);
    assert_eq!(late, Default::default());
    let back = writer.archive_view().await.unwrap().undo_plan(now, hour);
    assert_eq!(back.segments, drop);
    writer.prune_archive(back).await.unwrap();
    assert_eq!(repository.archive(&shard()).contents().await.unwrap().segments, all);
    let again = writer.archive_view().await.unwrap().plan(&drop, now, hour);
    writer.prune_archive(again).await.unwrap();
    // A reader of a dropped segment can still finish.
    let mut bytes = Vec::new();
    reader.open(&all[0]).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    let later = now + chrono::TimeDelta::hours(2);
    let plan = writer.archive_view().await.unwrap().plan(&Default::default(), later, hour);
    // The objects of the dropped segments, the index that named nothing else, and the horizon
    // before this one.
    assert_eq!(plan.objects.len(), 152, "{:?}", plan.objects);
    writer.prune_archive(plan).await.unwrap();
    // The archiver continued in between, and all remaining segments are sound.
    seal(&archiver, 301, 302, 200).await;
    store.take_counts();
    let report = repository.archive(&shard()).verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    assert_eq!((report.damaged, report.segments), (vec![], 151));
    let left = repository.archive(&shard()).contents().await.unwrap();
    assert_eq!((left.held(1), left.timelines.len()), (Some(set("A:1-302")), 1));
    let plan = writer.archive_view().await.unwrap().plan(&Default::default(), later, hour);
    assert_eq!(plan.objects.len(), 1, "the horizon before this one: {:?}", plan.objects);
    writer.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn segment_with_invalid_binlog_is_damage_to_content_readers() {
    let (_, repository) = bench().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    seal(&writer, 1, 4, 300).await;
    // Half of a write, and all of it again behind that: the archive stores exactly the bytes that
    // it was given.
    let (mut segment, bytes) = make_segment(5, 6, 300);
    let shifted = [&bytes[..100], &bytes[..500]].concat();
    segment.hash = SegmentHash(*blake3::hash(&shifted).as_bytes());
    writer.put_tail(&segment, &shifted).await.unwrap();
    let reader = repository.archive(&shard());
    assert!(reader.verify(VerifyDepth::Objects, &|_| {}).await.unwrap().damaged.is_empty());
    let report = reader.verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    let object = &reader.contents().await.unwrap().segments[1].object;
    let [damage] = &report.damaged[..] else { panic!("{report:?}") };
    assert_eq!((&damage.object, &damage.gtids), (object, &set("A:5-6")));
    let (found, wrong) = reader.timeline(1).damaged(&set("A:1-4")).await.unwrap().unwrap();
    assert_eq!((&found, &wrong), (object, &damage.wrong));
    assert_eq!(reader.timeline(1).damaged(&set("A:1-6")).await.unwrap(), None, "it is not needed any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_that_the_store_lost_is_detected_and_put_again() {
    for key in [None, Some(support::key(3))] {
        let store = Arc::new(FaultyStore::honest());
        let repository = Repository::on(store.clone(), key.as_ref(), Host::system()).await.unwrap();
        let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
        seal(&writer, 1, 2, 200).await;
        tail(&writer, 3, 3, 200).await;
        assert_eq!(writer.lost().await.unwrap().len(), 0);
        store.obey(|operation, key| {
            if operation == "put" && key.contains("/journal/") {
                StoreFault::Loses
            } else {
                StoreFault::Honest
            }
        });
        tail(&writer, 4, 5, 200).await;
        store.obey(|_, _| StoreFault::Honest);
        tail(&writer, 6, 6, 200).await;
        let damaged = || async { repository.archive(&shard()).contents().await.unwrap().damaged.len() };
        assert_eq!(damaged().await, 1);
        store.take_counts();
        let lost = writer.lost().await.unwrap();
        assert_eq!(store.take_counts().into_values().sum::<u64>(), 1, "one request");
        let [lost] = &lost[..] else { panic!("{lost:?}") };
        let (segment, bytes) = make_segment(4, 5, 200);
        assert_eq!(lost.segment(), Some(&segment));
        assert!(writer.put_again(lost, &bytes[1..]).await.is_err(), "other bytes");
        writer.put_again(lost, &bytes).await.unwrap();
        writer.put_again(lost, &bytes).await.unwrap();
        assert_eq!((writer.lost().await.unwrap().len(), damaged().await), (0, 0));
        assert_eq!(file(&repository.archive(&shard())).await.len(), 1200);
        writer.seal_tail().await.unwrap();
        assert_eq!(file(&repository.archive(&shard())).await.len(), 1200);
        assert_eq!(writer.lost().await.unwrap().len(), 0, "what was replaced is not lost");
    }
}

/// Damage found by reading the content is known to all readers, until a verification finds the
/// object whole.
#[tokio::test(flavor = "multi_thread")]
async fn damage_found_by_verify_is_known_to_readers() {
    let dir = support::scratch();
    let location = support::location(dir.path());
    let repository = Repository::open(&location, None, Host::system()).await.unwrap();
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    seal(&writer, 1, 2, 5000).await;
    seal(&writer, 3, 4, 5000).await;
    let reader = repository.archive(&shard());
    let object = reader.contents().await.unwrap().segments[0].object.clone();
    let whole = std::fs::read(dir.path().join(&object)).unwrap();
    let mut bytes = whole.clone();
    bytes[4000] ^= 4;
    std::fs::write(dir.path().join(&object), bytes).unwrap();
    let at = DateTime::UNIX_EPOCH;
    for (depth, lost) in
        [(VerifyDepth::Objects, ""), (VerifyDepth::Content, "A:1-2"), (VerifyDepth::Objects, "A:1-2")]
    {
        let report = reader.verify(depth, &|_| {}).await.unwrap();
        reader.note(&report, depth, at).await.unwrap();
        assert_eq!(reader.checked().await.unwrap().lost(1), set(lost), "{depth:?}");
    }
    std::fs::write(dir.path().join(&object), whole).unwrap();
    let report = reader.verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    assert!(reader.note(&report, VerifyDepth::Content, at).await.unwrap().is_empty());
    assert!(reader.checked().await.unwrap().lost(1).is_empty());
}

/// A lost segment is stored again in its place, also after the journal was compacted.
#[tokio::test(flavor = "multi_thread")]
async fn lost_segment_is_stored_again_in_its_place() {
    let dir = support::scratch();
    let location = support::location(dir.path());
    let repository = Repository::open(&location, None, Host::system()).await.unwrap();
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=3 {
        seal(&writer, number, number, 200).await;
    }
    let reader = repository.archive(&shard());
    let before = reader.contents().await.unwrap();
    std::fs::remove_file(dir.path().join(&before.segments[1].object)).unwrap();
    writer.release().await.unwrap();
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    let lost = writer.lost_segments().await.unwrap();
    let (segment, bytes) = make_segment(2, 2, 200);
    assert_eq!(
        lost.iter().map(|lost| lost.segment().clone()).collect::<Vec<_>>(),
        std::slice::from_ref(&segment)
    );
    let other = bytes[1..].to_vec();
    assert!(writer.seal_again(&lost[0], &segment, &other).await.is_err(), "others than it was");
    writer.seal_again(&lost[0], &segment, &bytes).await.unwrap();
    assert!(writer.lost_segments().await.unwrap().is_empty());
    for number in 4..=140 {
        seal(&writer, number, number, 200).await;
        if matches!(number, 4 | 140) {
            let fresh = Repository::open(&location, None, Host::system()).await.unwrap().archive(&shard());
            let contents = fresh.contents().await.unwrap();
            assert_eq!(contents, writer.contents().await, "{number}");
            assert_eq!((contents.segments[1].number, contents.damaged), (before.segments[1].number, vec![]));
            assert!(file(&fresh).await == make_segment(1, number, 200).1, "{number}");
            assert_eq!(fresh.verify(VerifyDepth::Content, &|_| {}).await.unwrap().damaged, []);
        }
    }
}
