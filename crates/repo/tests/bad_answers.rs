//! Repeats a request after one bad answer of a store: a single bad answer is no damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use backstop_host::Host;
use backstop_repo::{Repository, VerifyDepth};
use backstop_types::error::ErrorKind;

use support::binlog::{file, make_segment, seal, tail};
use support::faulty_store::{FaultyStore, StoreFault};
use support::{Bench, Sample, noise, shard};

/// Returns a store with a backup, an increment on it, and an archive of a segment and a tail.
async fn filled() -> (Arc<FaultyStore>, Sample, Bench) {
    let store = Arc::new(FaultyStore::honest());
    let (bench, sample) = (Bench::on(store.clone()).await, Sample::in_memory());
    sample.write("db/a.ibd", &noise(1, 3_000_000));
    let first = bench.backup(&sample, None).await;
    sample.patch("db/a.ibd", 1_000_000, &noise(2, 50_000));
    let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
    bench.backup(&sample, Some(&parent)).await;
    let writer = bench.repository.acquire_archive_lease(&shard()).await.unwrap();
    tail(&writer, 1, 2, 200_000).await;
    seal(&writer, 1, 2, 200_000).await;
    tail(&writer, 3, 5, 200_000).await;
    writer.release().await.unwrap();
    (store, sample, bench)
}

/// Falsifies every first, third, … answer for an object in this way.
fn every_other(deed: StoreFault) -> impl Fn(&'static str, &str) -> StoreFault + Send + Sync {
    let asked: Mutex<BTreeMap<String, u64>> = Mutex::default();
    move |operation, key| {
        let referenced = ["/packs/", "/manifest", "/extents", "/fingerprints", "/segments/"];
        // Absence is a valid answer for an object that nothing refers to.
        if operation != "get"
            || (deed == StoreFault::Misses && !referenced.iter().any(|part| key.contains(part)))
        {
            return StoreFault::Honest;
        }
        let mut asked = asked.lock().unwrap();
        let count = asked.entry(key.to_owned()).or_default();
        *count += 1;
        if *count % 2 == 1 { deed } else { StoreFault::Honest }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_is_repeated_after_a_bad_answer() {
    let (store, sample, _) = filled().await;
    for deed in [StoreFault::Short, StoreFault::Flips, StoreFault::Misses] {
        store.obey(every_other(deed));
        let bench = Bench {
            repository: Repository::on(store.clone(), None, Host::system()).await.unwrap(),
            dir: None,
        };
        let catalog = bench.reader().catalog().await.unwrap();
        assert_eq!(catalog.len(), 2, "{deed:?}");
        let restored = bench.restored(&catalog[1].facts.backup_id).await;
        assert!(restored == sample.snapshot(), "{deed:?}");
        for depth in [VerifyDepth::Objects, VerifyDepth::Content] {
            let report = bench.reader().verify(depth, &|_| {}).await.unwrap();
            assert!(report.damaged.is_empty(), "{deed:?}: {:?}", report.damaged);
            let archive = bench.repository.archive(&shard()).verify(depth, &|_| {}).await.unwrap();
            assert!(archive.damaged.is_empty(), "{deed:?}: {:?}", archive.damaged);
        }
        assert!(file(&bench.repository.archive(&shard())).await == make_segment(1, 5, 200_000).1, "{deed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn same_bad_answer_twice_is_reported_as_damage() {
    let (store, _, bench) = filled().await;
    store.obey(|operation, key| {
        if operation == "get" && key.contains("/packs/") { StoreFault::Flips } else { StoreFault::Honest }
    });
    let catalog = bench.reader().catalog().await.unwrap();
    let manifest = bench.reader().manifest(&catalog[0].facts.backup_id).await.unwrap();
    let target = support::scratch();
    let restored = bench.reader().restore(&manifest, target.path(), &Default::default(), &|_| {}).await;
    assert_eq!(restored.unwrap_err().kind, ErrorKind::Damaged);
}
