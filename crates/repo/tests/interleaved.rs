//! Prunes beside an archiver, in every order of their requests: no referenced object is ever
//! removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backstop_host::Host;
use backstop_repo::{ArchiveReader, Repository, VerifyDepth};
use backstop_types::gtid::GtidSet;
use chrono::{DateTime, TimeDelta, Utc};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use support::binlog::{seal, set, tail};
use support::paused_store::{PausedStore, Turn};
use support::shard;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_100_000, 0).unwrap()
}

/// Returns an archive with a tail whose oldest segments were dropped two hours ago, and whose
/// archiver has released it.
async fn stage(sealed: u64) -> InMemory {
    let store = Arc::new(InMemory::new());
    let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
    let archiver = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=sealed {
        seal(&archiver, number, number, 200).await;
    }
    tail(&archiver, sealed + 1, sealed + 1, 200).await;
    archiver.release().await.unwrap();
    let writer = repository.acquire_lease(&shard(), "prune").await.unwrap();
    let view = writer.archive_view().await.unwrap();
    let drop = oldest(&repository.archive(&shard()), 2).await;
    writer.prune_archive(view.plan(&drop, now() - TimeDelta::hours(2), HOUR)).await.unwrap();
    writer.release().await.unwrap();
    store.fork()
}

async fn oldest(reader: &ArchiveReader, count: usize) -> BTreeSet<u64> {
    let contents = reader.contents().await.unwrap();
    contents.segments[..count].iter().map(|segment| segment.number).collect()
}

/// Runs the archiver during the prune: the service starts, seals the tail of its predecessor, and
/// continues.
async fn archiver_runs(repository: &Repository, from: u64) {
    let archiver = repository.acquire_archive_lease(&shard()).await.unwrap();
    seal(&archiver, from, from, 200).await;
    tail(&archiver, from + 1, from + 1, 200).await;
    archiver.release().await.unwrap();
}

async fn prune(repository: &Repository) {
    let writer = repository.acquire_lease(&shard(), "prune").await.unwrap();
    let view = writer.archive_view().await.unwrap();
    let drop = oldest(&repository.archive(&shard()), 2).await;
    let plan = view.plan(&drop, now(), HOUR);
    writer.prune_archive(plan).await.unwrap();
    writer.release().await.unwrap();
}

async fn all_is_there(store: Arc<InMemory>, held: GtidSet, when: &str) {
    let reader = Repository::on(store, None, Host::system()).await.unwrap().archive(&shard());
    let report = reader.verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    assert_eq!(report.damaged, [], "{when}");
    assert_eq!(reader.contents().await.unwrap().held(1), Some(held), "{when}");
}

/// Runs an archiver's restart before the request `first` of the prune, and another before `second`.
async fn both(staged: &InMemory, sealed: u64, first: usize, second: usize) -> bool {
    let store = Arc::new(staged.fork());
    let beside = Repository::on(store.clone(), None, Host::system()).await.unwrap();
    // One after the other, even if the prune sends several requests at the same time.
    let one = Arc::new(tokio::sync::Mutex::new(()));
    let turn: Turn = Arc::new(move |nth| {
        let (beside, one) = (beside.clone(), one.clone());
        Box::pin(async move {
            let _one = one.lock().await;
            if nth == first {
                archiver_runs(&beside, sealed + 1).await;
            }
            if nth == second {
                archiver_runs(&beside, sealed + 2).await;
            }
        })
    });
    let paused = Arc::new(PausedStore::new(store.clone(), turn));
    let repository = Repository::on(paused.clone(), None, Host::system()).await.unwrap();
    prune(&repository).await;
    let came = paused.requests() > second;
    if came {
        let when = format!("an archiver ran before requests {first} and {second} of the prune");
        all_is_there(store, set(&format!("A:1-{}", sealed + 3)), &when).await;
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_no_named_object_beside_restarting_archivers() {
    let sealed = 6;
    let staged = stage(sealed).await;
    let mut runs = 0;
    for second in 0.. {
        let mut came = false;
        // At the same request, and this many requests before it: one step of the prune's plan is a
        // few requests.
        for before in [0, 1, 2, 3, 5, 8, 13, 21].into_iter().filter(|before| *before <= second) {
            came |= both(&staged, sealed, second - before, second).await;
            runs += 1;
        }
        if !came {
            break;
        }
    }
    assert!(runs > 150, "every request of the prune: {runs} runs");
}

/// The next seal compacts the journal into an index.
#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_no_named_object_during_compaction() {
    let sealed = 127;
    let staged = stage(sealed).await;
    for first in 0.. {
        if !both(&staged, sealed, first, first).await {
            assert!(first > 20, "every request of the prune: {first}");
            break;
        }
    }
}

/// Reads an archive while it is compacted before the request `nth` of the read.
#[tokio::test(flavor = "multi_thread")]
async fn reader_finds_no_damage_during_compaction() {
    let sealed = 127;
    let staged = stage(sealed).await;
    for nth in 0.. {
        let store = Arc::new(staged.fork());
        let beside = Repository::on(store.clone(), None, Host::system()).await.unwrap();
        let turn: Turn = Arc::new(move |at| {
            let beside = beside.clone();
            Box::pin(async move {
                if at == nth {
                    archiver_runs(&beside, sealed + 1).await;
                }
            })
        });
        let paused = Arc::new(PausedStore::new(store, turn));
        let reader = Repository::on(paused.clone(), None, Host::system()).await.unwrap().archive(&shard());
        let contents = reader.contents().await.unwrap();
        assert_eq!(contents.damaged, [], "compacted before request {nth} of a read");
        let held = contents.held(1).unwrap();
        assert!(set(&format!("A:1-{sealed}")).is_subset_of(&held), "before request {nth}: {held}");
        if paused.requests() <= nth {
            break;
        }
    }
}

/// An archiver that sleeps through more leases than are kept, and through a compaction, still
/// stores nothing.
#[tokio::test(flavor = "multi_thread")]
async fn sleeping_archiver_stores_nothing_after_compaction() {
    let store = Arc::new(support::faulty_store::FaultyStore::honest());
    let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
    let sleeper = repository.acquire_archive_lease(&shard()).await.unwrap();
    tail(&sleeper, 1, 1, 200).await;
    // It sleeps: none of its heartbeats arrive.
    store.obey(|operation, key| {
        let asleep = operation == "put" && key.ends_with(&format!("archive/heartbeats/{:020}", 1));
        if asleep {
            support::faulty_store::StoreFault::Loses
        } else {
            support::faulty_store::StoreFault::Honest
        }
    });
    for _ in 0..70 {
        repository.acquire_archive_lease(&shard()).await.unwrap().release().await.unwrap();
    }
    let next = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=130 {
        seal(&next, number, number, 200).await;
    }
    let keys = store.keys().await;
    assert!(keys.iter().any(|key| key.contains("/archive/index/")), "it was compacted");
    let (segment, bytes) = support::binlog::make_segment(2, 2, 200);
    let error = sleeper.put_tail(&segment, &bytes).await.unwrap_err();
    assert_eq!(error.kind, backstop_types::error::ErrorKind::Held, "{error}");
    let leases = keys.iter().filter(|key| key.contains("/archive/journal/")).count();
    assert!(leases < 80, "old leases are removed: {leases} entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_keeps_segments_that_a_lost_entry_may_name() {
    let store = Arc::new(stage(6).await);
    let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
    archiver_runs(&repository, 7).await;
    archiver_runs(&repository, 8).await;
    let contents = repository.archive(&shard()).contents().await.unwrap();
    let named = contents.segments.iter().rev().nth(2).unwrap();
    // The entry that sealed it is lost. Behind it are a lease, another sealing entry, and the tail.
    let keys = support::keys_of(&*store).await;
    let entry = keys.iter().filter(|key| key.contains("/journal/")).rev().nth(3).unwrap();
    store.delete(&entry.as_str().into()).await.unwrap();
    let lost = repository.archive(&shard()).contents().await.unwrap();
    assert!(!lost.segments.contains(named) && !lost.damaged.is_empty(), "{entry}");
    let before = support::keys_of(&*store).await;
    prune(&repository).await;
    let after = support::keys_of(&*store).await;
    assert!(before.contains(&named.object) && after.contains(&named.object), "{}", named.object);
}
