//! Rebuilds an index of the archive after a kill: of an archiver that left segments behind, or of
//! the repair itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backstop_host::Host;
use backstop_repo::Repository;
use chrono::DateTime;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use support::binlog::{file, make_segment, seal, tail};
use support::faulty_store::{FaultyStore, StoreFault};
use support::shard;

const SIZE: u64 = 200;

/// An archiver that was killed, or whose put failed, leaves segments behind that no entry names.
#[tokio::test(flavor = "multi_thread")]
async fn leftover_segments_are_not_named_by_a_rebuild() {
    let store = Arc::new(FaultyStore::honest());
    let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
    let fails = || {
        store.obey(|operation, key| match operation {
            "put" if key.contains("/journal/") => StoreFault::Fails,
            _ => StoreFault::Honest,
        });
    };
    let mut writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=130 {
        if matches!(number, 40 | 60 | 80) {
            if number != 40 {
                tail(&writer, number, number, SIZE).await;
            }
            // Longer than the tail, with some transactions that come again.
            let (segment, bytes) = make_segment(number, number + number / 80, SIZE);
            fails();
            assert!(writer.seal(&segment, &bytes).await.is_err());
            store.obey(|_, _| StoreFault::Honest);
            writer.release().await.unwrap();
            writer = repository.acquire_archive_lease(&shard()).await.unwrap();
            writer.seal_tail().await.unwrap();
            if number != 40 {
                continue;
            }
        }
        seal(&writer, number, number, SIZE).await;
    }
    writer.release().await.unwrap();
    let before = repository.archive(&shard()).contents().await.unwrap();
    assert_eq!((before.segments.len(), before.damaged.len()), (130, 0));
    for index in listed(&store, "index").await {
        store.delete(&index).await.unwrap();
    }
    let repaired = repository.repair_indexes(&shard()).await.unwrap();
    assert_eq!((repaired.len(), repaired[0].found), (1, 128));
    assert!(repository.archive(&shard()).contents().await.unwrap() == before);
    // The next archiver's lease is newer than theirs: now the prune removes them.
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    assert_eq!(listed(&store, "segments").await.len(), 133);
    writer.release().await.unwrap();
    let writer = repository.acquire_lease(&shard(), "prune").await.unwrap();
    let plan =
        writer.archive_view().await.unwrap().plan(&BTreeSet::new(), DateTime::UNIX_EPOCH, Duration::ZERO);
    assert_eq!(plan.objects.iter().filter(|(key, _)| key.contains("/segments/")).count(), 3, "{plan:?}");
    writer.release().await.unwrap();
}

/// The next repair completes one that was killed before any of its writes. It watches the killed
/// one for 15 s.
#[tokio::test(flavor = "multi_thread")]
async fn killed_repair_is_completed_by_the_next() {
    let store = Arc::new(InMemory::new());
    let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=260 {
        seal(&writer, number, number, SIZE).await;
    }
    writer.release().await.unwrap();
    let before = repository.archive(&shard()).contents().await.unwrap();
    harm(&store).await;
    let kills = (0..12).map(|nth| {
        let (store, before) = (Arc::new(FaultyStore::over(store.fork())), before.clone());
        let puts = AtomicUsize::new(0);
        store.obey(move |operation, _| match operation {
            "put" if puts.fetch_add(1, Ordering::SeqCst) >= nth => StoreFault::Fails,
            _ => StoreFault::Honest,
        });
        async move {
            let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
            repository.repair_indexes(&shard()).await.unwrap_err();
            drop(repository);
            store.obey(|_, _| StoreFault::Honest);
            let repository = Repository::on(store.clone(), None, Host::system()).await.unwrap();
            repository.repair_indexes(&shard()).await.unwrap();
            let reader = Repository::on(store, None, Host::system()).await.unwrap().archive(&shard());
            assert!(reader.contents().await.unwrap() == before, "killed before put {nth}");
            assert_eq!(file(&reader).await.len() as u64, 260 * SIZE);
        }
    });
    futures::future::join_all(kills).await;
}

/// Damages the first index and removes the second.
async fn harm(store: &InMemory) {
    let indexes = listed(store, "index").await;
    assert_eq!(indexes.len(), 2);
    store.put(&indexes[0], "torn".into()).await.unwrap();
    store.delete(&indexes[1]).await.unwrap();
}

/// Returns the objects in a directory of the archive.
async fn listed(store: &dyn ObjectStore, directory: &str) -> Vec<object_store::path::Path> {
    let directory = format!("shards/orders/archive/{directory}").into();
    let listed: Vec<_> = store.list(Some(&directory)).try_collect().await.unwrap();
    let mut listed: Vec<_> = listed.into_iter().map(|meta| meta.location).collect();
    listed.sort();
    listed
}
