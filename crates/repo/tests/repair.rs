//! Rebuilds a log with lost or damaged entries from the stored objects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::PathBuf;

use backstop_host::Host;
use backstop_repo::{CatalogEntry, LogRepair, Repository, VerifyDepth};
use backstop_types::error::ErrorKind;
use backstop_types::ids::BackupId;

use support::{Bench, SHARD, Sample, facts, location, next_id, noise, shard, tree_of};

/// Returns a repository with three backups, the later ones increments, and the sample that each
/// holds.
async fn three() -> (Bench, Vec<CatalogEntry>, Sample) {
    let (bench, sample) = (Bench::local().await, Sample::new());
    let mut backups = Vec::new();
    for seed in 1..4 {
        sample.write(&format!("{seed}.ibd"), &noise(seed, 200_000));
        backups.push(bench.backup(&sample, None).await);
    }
    (bench, backups, sample)
}

fn ids(backups: &[CatalogEntry]) -> Vec<BackupId> {
    backups.iter().map(|entry| entry.facts.backup_id.clone()).collect()
}

/// Returns the files of a directory of the shard, sorted.
fn files(bench: &Bench, directory: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(bench.dir().join("shards").join(SHARD).join(directory)).unwrap();
    let mut all: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn remove_from(bench: &Bench, number: usize) {
    for entry in &files(bench, "log")[number - 1..] {
        std::fs::remove_file(entry).unwrap();
    }
}

/// Opens the repository as another run would: without any cached state.
async fn opened(bench: &Bench) -> Repository {
    Repository::open(&location(bench.dir()), None, Host::system()).await.unwrap()
}

async fn planned(bench: &Bench) -> Vec<LogRepair> {
    opened(bench).await.plan_repair(&shard(), &|_| {}).await.unwrap()
}

/// Repairs, and checks that everything works afterwards: these backups are listed and restored,
/// verification finds nothing, the next backup succeeds, and no further repair is needed.
async fn repaired(bench: &Bench, expected: &[BackupId], sample: &Sample) {
    let before = planned(bench).await;
    let repository = opened(bench).await;
    assert_eq!(repository.repair(&shard(), &|_| {}).await.unwrap(), before, "it does what it showed");
    assert_eq!(opened(bench).await.plan_repair(&shard(), &|_| {}).await.unwrap(), []);
    assert_eq!(ids(&bench.reader().catalog().await.unwrap()), expected);
    bench.reader().ends_well().await.unwrap();
    if let Some(newest) = expected.last() {
        assert_eq!(bench.restored(newest).await, tree_of(sample.path()));
    }
    let verified = bench.reader().verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    assert_eq!((verified.damaged, verified.backups.as_slice()), (vec![], expected));
    let next = bench.backup(sample, None).await;
    assert_eq!(bench.reader().catalog().await.unwrap().last().unwrap().facts, next.facts);
    assert_eq!(planned(bench).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_log_needs_no_repair() {
    let (bench, ..) = three().await;
    assert_eq!(planned(&bench).await, []);
    assert_eq!(opened(&bench).await.repair(&shard(), &|_| {}).await.unwrap(), []);
    let empty = Bench::local().await;
    assert_eq!(empty.repository.plan_repair(&shard(), &|_| {}).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_newest_entry_is_superseded() {
    let (bench, backups, sample) = three().await;
    std::fs::write(files(&bench, "log").last().unwrap(), b"not an entry").unwrap();
    let error = bench.repository.acquire_lease(&shard(), "backup").await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Damaged);
    let plan = planned(&bench).await;
    assert_eq!((plan.len(), &plan[0].kept, plan[0].found.len()), (1, &ids(&backups), 0));
    assert!(plan[0].wrong.contains("damaged"), "{}", plan[0].wrong);
    repaired(&bench, &ids(&backups), &sample).await;
}

/// These run in parallel, because each of them watches a holder that may live for 15 s.
#[tokio::test(flavor = "multi_thread")]
async fn lost_end_of_a_log_is_rebuilt_unless_its_holder_lives() {
    let ends = futures::future::join_all([1, 4, 5, 9].map(lost_from));
    tokio::join!(
        ends,
        a_backup_that_lacks_an_object_is_not_listed_again(),
        a_living_run_is_not_repaired_away(),
        the_claims_of_an_archive_continue_after_a_repair()
    );
}

/// Removes the entries from this one on. Each backup has three: lease, commit, release.
async fn lost_from(first: usize) {
    let (bench, backups, sample) = three().await;
    remove_from(&bench, first);
    let plan = planned(&bench).await;
    let kept = ids(&backups[..first / 3]);
    assert_eq!(plan[0].kept, kept, "without the entries from {first}");
    assert_eq!(plan[0].found, ids(&backups)[kept.len()..], "without the entries from {first}");
    repaired(&bench, &ids(&backups), &sample).await;
}

async fn a_backup_that_lacks_an_object_is_not_listed_again() {
    let (bench, backups, sample) = three().await;
    let mut unfinished = bench.acquire_lease().await;
    sample.write("4.ibd", &noise(4, 200_000));
    let stored = unfinished.store(&sample.tree(), None, &|_| {}).await.unwrap();
    unfinished.commit(facts(next_id()), stored).await.unwrap();
    unfinished.release().await.unwrap();
    std::fs::remove_file(sample.path().join("4.ibd")).unwrap();
    std::fs::remove_file(files(&bench, "packs").last().unwrap()).unwrap();
    remove_from(&bench, 1);
    let plan = planned(&bench).await;
    assert_eq!(plan[0].found, ids(&backups));
    let [(object, why)] = &plan[0].left[..] else { panic!("{:?}", plan[0].left) };
    assert!(object.ends_with("manifest") && why.contains("missing"), "{object}: {why}");
    repaired(&bench, &ids(&backups), &sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_backup_does_not_return_after_a_repair() {
    let (bench, backups, sample) = three().await;
    std::fs::remove_dir_all(&files(&bench, "backups")[0]).unwrap();
    std::fs::write(files(&bench, "log").last().unwrap(), b"torn").unwrap();
    let plan = planned(&bench).await;
    assert_eq!((&plan[0].gone, &plan[0].kept), (&ids(&backups[..1]), &ids(&backups[1..])));
    repaired(&bench, &ids(&backups[1..]), &sample).await;
}

async fn a_living_run_is_not_repaired_away() {
    let (bench, backups, sample) = three().await;
    let holder = bench.acquire_lease().await;
    remove_from(&bench, 1);
    let error = opened(&bench).await.repair(&shard(), &|_| {}).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Held, "{error}");
    drop(holder);
    let (first, second) = (opened(&bench).await, opened(&bench).await);
    let shard = shard();
    let (one, two) = tokio::join!(first.repair(&shard, &|_| {}), second.repair(&shard, &|_| {}));
    let written = [&one, &two].iter().filter(|done| done.as_ref().is_ok_and(|done| done.len() == 1)).count();
    assert_eq!(written, 1, "{one:?} {two:?}");
    assert_eq!(ids(&bench.reader().catalog().await.unwrap()), ids(&backups));
    bench.backup(&sample, None).await;
}

async fn the_claims_of_an_archive_continue_after_a_repair() {
    let bench = Bench::local().await;
    for _ in 0..3 {
        bench.repository.acquire_archive_lease(&shard()).await.unwrap().release().await.unwrap();
    }
    for entry in files(&bench, "archive/log") {
        std::fs::remove_file(entry).unwrap();
    }
    let plan = planned(&bench).await;
    assert!(plan.len() == 1 && plan[0].log.contains("archive"), "{plan:?}");
    opened(&bench).await.repair(&shard(), &|_| {}).await.unwrap();
    assert_eq!(planned(&bench).await, []);
    let leases = files(&bench, "archive/heartbeats");
    bench.repository.acquire_archive_lease(&shard()).await.unwrap().release().await.unwrap();
    let later = files(&bench, "archive/heartbeats");
    assert!(later.last() > leases.last(), "{later:?} after {leases:?}");
}
