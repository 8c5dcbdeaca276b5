//! Concurrent runs, dead runs, runs that only seem dead, and stores that break their promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstop_host::Host;
use backstop_repo::{RepoKey, Repository, VerifyDepth};
use backstop_types::adopted::Adopted;
use backstop_types::backup::Sizes;
use backstop_types::completion::{Completion, CompletionOutcome};
use backstop_types::error::ErrorKind;
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};

use support::faulty_store::{FaultyStore, StoreFault};
use support::{Bench, Sample, facts, next_id, noise, shard};

const HOUR: Duration = Duration::from_secs(3600);

fn sample() -> Sample {
    let sample = Sample::new();
    sample.write("a.ibd", &noise(1, 300_000));
    sample
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + seconds, 0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn second_run_is_refused_with_the_holder_of_the_shard() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let _first = bench.acquire_lease().await;
    let error = bench.repository.acquire_lease(&shard(), "prune").await.err().unwrap();
    assert_eq!((error.kind, error.kind.exit_code()), (ErrorKind::Held, 11));
    for part in ["backup", &format!("pid {}", std::process::id()), "host ", "since 20"] {
        assert!(error.message.contains(part), "{error}");
    }
}

/// EC2 reports the end of a backup at any time: before its commit, and while a run holds the shard.
#[tokio::test(flavor = "multi_thread")]
async fn end_of_a_backup_needs_no_lease_and_is_kept_with_the_backup() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let end = |backup_id: &BackupId, outcome| Completion {
        backup_id: backup_id.clone(),
        outcome,
        snapshot_ids: vec!["snap-1".to_owned()],
        at: at(0),
    };
    let mut writer = bench.acquire_lease().await;
    let (committed, never) = (next_id(), next_id());
    for id in [&committed, &never] {
        let first = end(id, CompletionOutcome::Completed);
        assert_eq!(bench.reader().note_completion(first.clone()).await.unwrap(), first);
        let second = end(id, CompletionOutcome::Failed);
        assert_eq!(bench.reader().note_completion(second).await.unwrap(), first, "the first one counts");
    }
    let stored = writer.store_ebs(vec!["snap-1".to_owned()], "eu".to_owned(), Vec::new(), Sizes::default());
    writer.commit(facts(committed.clone()), stored).await.unwrap();
    let plan = writer.gc_plan(at(0), HOUR).await.unwrap();
    writer.sweep(plan).await.unwrap();
    assert!(bench.reader().completion(&committed).await.unwrap().is_some());
    assert_eq!(bench.reader().completion(&never).await.unwrap(), None, "no backup can have it any more");

    writer.condemn(std::slice::from_ref(&committed), at(0)).await.unwrap();
    let plan = writer.gc_plan(at(1), HOUR).await.unwrap();
    writer.sweep(plan).await.unwrap();
    assert!(bench.reader().completion(&committed).await.unwrap().is_some(), "its deletion can be undone");
    let plan = writer.gc_plan(at(7200), HOUR).await.unwrap();
    writer.sweep(plan).await.unwrap();
    assert_eq!(bench.reader().completion(&committed).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_simultaneous_claims_wins() {
    let store = Arc::new(FaultyStore::honest());
    let bench = Bench::on(store.clone()).await;
    let shard = shard();
    let leases = (0..6).map(|_| bench.repository.acquire_lease(&shard, "backup"));
    let outcomes = futures::future::join_all(leases).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1);
    assert!(
        outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|error| error.kind == ErrorKind::Held)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn adopted_history_stays_in_the_log() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    assert_eq!(bench.reader().adopted().await.unwrap(), None);
    let server = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let adopted = Adopted {
        at: at(0),
        servers: [server.parse().unwrap()].into(),
        gtid_executed: format!("{server}:1-5").parse().unwrap(),
    };
    let mut writer = bench.acquire_lease().await;
    writer.adopt(adopted.clone()).await.unwrap();
    writer.release().await.unwrap();
    bench.acquire_lease().await.release().await.unwrap();
    assert_eq!(bench.reader().adopted().await.unwrap(), Some(adopted));
}

/// Not a separate test: plays the run that is killed while it holds the shard.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a child process by the test below"]
async fn child_process_dies_holding_the_shard() {
    let dir = std::env::var("BACKSTOP_TEST_DIR").unwrap();
    let repository = Repository::open(&support::location(dir.as_ref()), None, Host::system()).await.unwrap();
    let _writer = repository.acquire_lease(&shard(), "backup").await.unwrap();
    std::process::abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn run_killed_on_this_host_is_superseded_at_once() {
    let bench = Bench::local().await;
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_process_dies_holding_the_shard"])
        .env("BACKSTOP_TEST_DIR", bench.dir())
        .output()
        .unwrap();
    assert!(!child.status.success());
    let dead = bench.reader().holder().await.unwrap().expect("the child claimed the shard");
    assert_ne!(dead.pid, std::process::id());
    // Its heartbeat appears and disappears, so a run that waits for one sees a sign of life and is
    // refused.
    let beating = Arc::new(AtomicBool::new(true));
    let (beat, go_on) =
        (bench.dir().join(format!("shards/{}/heartbeats/{:020}", support::SHARD, 1)), beating.clone());
    assert!(beat.is_file());
    let flicker = std::thread::spawn(move || {
        let aside = beat.with_extension("aside");
        while go_on.load(Ordering::Relaxed) {
            std::fs::rename(&beat, &aside).unwrap();
            std::fs::rename(&aside, &beat).unwrap();
        }
    });
    bench.backup(&sample(), None).await;
    beating.store(false, Ordering::Relaxed);
    flicker.join().unwrap();
}

/// A run whose heartbeats do not arrive counts as dead after the TTL; when it wakes up it can
/// neither commit, nor delete, nor release, although it still can write objects.
#[tokio::test(flavor = "multi_thread")]
async fn superseded_run_changes_nothing_after_waking_up() {
    let store = Arc::new(FaultyStore::honest());
    let bench = Bench::on(store.clone()).await;
    let kept = bench.backup(&sample(), None).await;
    let mut sleeper = bench.acquire_lease().await;
    let stored = sleeper.store(&sample().tree(), None, &|_| {}).await.unwrap();
    let asleep = format!("heartbeats/{:020}", 4);
    store.obey(move |operation, key| {
        if operation == "put" && key.ends_with(&asleep) { StoreFault::Loses } else { StoreFault::Honest }
    });
    let next = bench.acquire_lease().await;

    let id = next_id();
    let error = sleeper.commit(facts(id.clone()), stored).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Held, "{error}");
    assert!(error.message.contains("superseded"), "{error}");
    let error = sleeper.condemn(std::slice::from_ref(&kept.facts.backup_id), at(0)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Held, "{error}");
    let plan = sleeper.gc_plan(at(0), HOUR).await.unwrap();
    assert_eq!(sleeper.sweep(plan).await.unwrap_err().kind, ErrorKind::Held);
    assert_eq!(sleeper.release().await.unwrap_err().kind, ErrorKind::Held);

    let listed = next.reader().catalog().await.unwrap();
    assert_eq!(
        listed.iter().map(|entry| &entry.facts.backup_id).collect::<Vec<_>>(),
        [&kept.facts.backup_id]
    );
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let store = Arc::new(FaultyStore::new(|_, _| StoreFault::IgnoresCondition));
    let bench = Bench::on(store.clone()).await;
    let error = bench.repository.acquire_lease(&shard(), "backup").await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(store.keys().await.is_empty(), "the probe was left behind");
}

/// Behaves as a file system without hard links, whose error is that of missing permissions.
#[tokio::test(flavor = "multi_thread")]
async fn store_without_conditions_is_refused_with_a_hint() {
    let store = Arc::new(FaultyStore::new(|_, _| StoreFault::RefusesCondition));
    let bench = Bench::on(store.clone()).await;
    let error = bench.repository.probe().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.hint.unwrap().contains("hard links"));
    assert!(store.keys().await.is_empty(), "the probe was left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answer_is_not_taken_for_a_conflict() {
    let store = Arc::new(FaultyStore::new(|operation, key| {
        if operation == "put" && key.contains("/log/") { StoreFault::Repeats } else { StoreFault::Honest }
    }));
    let bench = Bench::on(store).await;
    let entry = bench.backup(&sample(), None).await;
    assert_eq!(bench.reader().catalog().await.unwrap(), [entry]);
}

/// Whichever object a store loses while it reports success: the run fails and lists nothing.
#[tokio::test(flavor = "multi_thread")]
async fn run_fails_if_the_store_loses_an_object() {
    for lost in ["/packs/", "/extents", "/fingerprints", "/manifest", "/log/"] {
        let store = Arc::new(FaultyStore::honest());
        let bench = Bench::on(store.clone()).await;
        let mut writer = bench.acquire_lease().await;
        store.obey(move |operation, key| {
            if operation == "put" && key.contains(lost) { StoreFault::Loses } else { StoreFault::Honest }
        });
        let stored = writer.store(&sample().tree(), None, &|_| {}).await.unwrap();
        let error = writer.commit(facts(next_id()), stored).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Store, "{lost}: {error}");
        assert!(error.message.contains(lost), "{lost}: {error}");
        assert!(bench.reader().catalog().await.unwrap().is_empty(), "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn store_error_fails_the_run_and_a_retry_succeeds() {
    for broken in ["/packs/", "/extents", "/fingerprints", "/manifest", "/log/"] {
        let store = Arc::new(FaultyStore::honest());
        let bench = Bench::on(store.clone()).await;
        let mut writer = bench.acquire_lease().await;
        store.obey(move |operation, key| {
            if operation == "put" && key.contains(broken) { StoreFault::Fails } else { StoreFault::Honest }
        });
        let outcome = async {
            let stored = writer.store(&sample().tree(), None, &|_| {}).await?;
            writer.commit(facts(next_id()), stored).await
        };
        let error = outcome.await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Store, "{broken}: {error}");
        assert!(error.message.contains(broken), "{broken}: {error}");
        store.obey(|_, _| StoreFault::Honest);
        let stored = writer.store(&sample().tree(), None, &|_| {}).await.unwrap();
        writer.commit(facts(next_id()), stored).await.unwrap();
        writer.release().await.unwrap();
        let report = bench.reader().verify(VerifyDepth::Content, &|_| {}).await.unwrap();
        assert!(report.damaged.is_empty() && report.backups.len() == 1, "{broken}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_succeeds_on_a_slow_store() {
    let store = Arc::new(FaultyStore::new(|_, _| StoreFault::Dawdles));
    let bench = Bench::on(store).await;
    let sample = sample();
    let entry = bench.backup(&sample, None).await;
    assert!(bench.restored(&entry.facts.backup_id).await == sample.snapshot());
}

/// Counts the requests for one increment of one changed block: each costs money and latency.
#[tokio::test(flavor = "multi_thread")]
async fn increment_needs_a_bounded_number_of_requests() {
    let store = Arc::new(FaultyStore::honest());
    let bench = Bench::on(store.clone()).await;
    let sample = Sample::new();
    sample.write("a.ibd", &noise(1, 4 << 20));
    let first = bench.backup(&sample, None).await;
    sample.patch("a.ibd", 1 << 20, b"changed");
    store.take_counts();
    let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
    bench.backup(&sample, Some(&parent)).await;
    let counts = store.take_counts();
    // Lease, commit, release, a heartbeat with each, a pack, two index objects, a manifest.
    assert_eq!(counts["put"], 10, "{counts:?}");
    assert_eq!(counts["head"], 4, "{counts:?}");
    assert!(counts["get"] <= 24 && counts["list"] <= 12, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_is_either_plain_or_encrypted() {
    let plain: Arc<FaultyStore> = Arc::new(FaultyStore::honest());
    Bench::on(plain.clone()).await.backup(&sample(), None).await;
    let open = |store: &Arc<FaultyStore>, key: Option<RepoKey>| {
        let store = store.clone();
        async move { Repository::on(store, key.as_ref(), Host::system()).await.err() }
    };
    assert_eq!(open(&plain, Some(support::key(1))).await.unwrap().kind, ErrorKind::Usage);

    let sealed: Arc<FaultyStore> = Arc::new(FaultyStore::honest());
    let repository = Repository::on(sealed.clone(), Some(&support::key(1)), Host::system()).await.unwrap();
    let bench = Bench { repository, dir: None };
    let sample = sample();
    let entry = bench.backup(&sample, None).await;
    assert!(sealed.keys().await.iter().all(|key| !key.contains("orders")), "names tell the shard");
    for wrong in [None, Some(support::key(2))] {
        assert_eq!(open(&sealed, wrong).await.unwrap().kind, ErrorKind::Usage);
    }

    bench.repository.rotate_key(&support::key(2)).await.unwrap();
    assert_eq!(open(&sealed, Some(support::key(1))).await.unwrap().kind, ErrorKind::Usage);
    let repository = Repository::on(sealed.clone(), Some(&support::key(2)), Host::system()).await.unwrap();
    assert_eq!(repository.shards().await.unwrap(), [shard()]);
    let bench = Bench { repository, dir: None };
    assert!(bench.restored(&entry.facts.backup_id).await == sample.snapshot());
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_removes_only_objects_of_deleted_backups_after_grace() {
    let store = Arc::new(FaultyStore::honest());
    let bench = Bench::on(store.clone()).await;
    let sample = sample();
    let first = bench.backup(&sample, None).await;
    let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
    sample.patch("a.ibd", 20_000, &noise(5, 20_000));
    let second = bench.backup(&sample, Some(&parent)).await;

    let mut writer = bench.acquire_lease().await;
    writer.condemn(std::slice::from_ref(&first.facts.backup_id), at(0)).await.unwrap();
    assert_eq!(writer.reader().condemned().await.unwrap().len(), 1);
    let early = writer.gc_plan(at(3599), HOUR).await.unwrap();
    assert!(early.backups.is_empty());
    assert!(
        early.objects.iter().all(|(key, _)| !key.contains("/backups/") && !key.contains("/packs/")),
        "{early:?}"
    );

    let plan = writer.gc_plan(at(3600), HOUR).await.unwrap();
    assert_eq!(plan.backups, std::slice::from_ref(&first.facts.backup_id));
    let order: Vec<_> = plan.objects.iter().filter_map(|(key, _)| key.rsplit('/').next()).collect();
    assert_eq!(&order[..3], ["manifest", "extents", "fingerprints"], "deletion is creation in reverse");
    assert!(
        plan.objects.iter().all(|(key, _)| !key.contains("/packs/")),
        "the second backup needs both packs"
    );
    let swept = writer.sweep(plan).await.unwrap();
    assert!(swept.objects >= 3 && swept.bytes > 0);
    writer.release().await.unwrap();
    assert!(bench.restored(&second.facts.backup_id).await == sample.snapshot());

    let mut writer = bench.acquire_lease().await;
    writer.condemn(std::slice::from_ref(&second.facts.backup_id), at(0)).await.unwrap();
    let plan = writer.gc_plan(at(3600), HOUR).await.unwrap();
    writer.sweep(plan).await.unwrap();
    writer.release().await.unwrap();
    let left = store.keys().await;
    assert!(left.iter().all(|key| !key.contains("/packs/") && !key.contains("/backups/")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_plan_of_another_lease_is_refused() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let writer = bench.acquire_lease().await;
    let plan = writer.gc_plan(at(0), HOUR).await.unwrap();
    writer.release().await.unwrap();
    let mut writer = bench.acquire_lease().await;
    assert_eq!(writer.sweep(plan).await.unwrap_err().kind, ErrorKind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_keeps_only_its_newest_entries() {
    let store = Arc::new(FaultyStore::honest());
    let bench = Bench::on(store.clone()).await;
    let entry = bench.backup(&sample(), None).await;
    for _ in 0..40 {
        bench.acquire_lease().await.release().await.unwrap();
    }
    let mut writer = bench.acquire_lease().await;
    let plan = writer.gc_plan(at(0), HOUR).await.unwrap();
    writer.sweep(plan).await.unwrap();
    writer.release().await.unwrap();
    let kept = store.keys().await.iter().filter(|key| key.contains("/log/")).count();
    assert!((64..=67).contains(&kept), "{kept}");
    assert_eq!(bench.reader().catalog().await.unwrap(), [entry]);
    assert!(bench.reader().verify(VerifyDepth::Objects, &|_| {}).await.unwrap().damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_is_undone_only_within_its_grace() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let (first, second) = (bench.backup(&sample(), None).await, bench.backup(&sample(), None).await);
    let ids = [first.facts.backup_id.clone()];
    let mut writer = bench.acquire_lease().await;
    writer.condemn(&ids, at(0)).await.unwrap();
    let late = writer.undo(&ids, at(3600), HOUR).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::NotRecoverable, "{late}");
    writer.undo(&ids, at(3599), HOUR).await.unwrap();
    assert_eq!(
        bench.reader().catalog().await.unwrap(),
        [first.clone(), second],
        "in the order they were made"
    );
    assert!(writer.gc_plan(at(9999), HOUR).await.unwrap().backups.is_empty());
    assert_eq!(writer.undo(&ids, at(1), HOUR).await.unwrap_err().kind, ErrorKind::NotRecoverable);
    writer.release().await.unwrap();
    bench.restored(&first.facts.backup_id).await;
}

/// If the store's clock is right and this host's is wrong, or the reverse, nothing is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn deletion_is_refused_if_the_store_clock_disagrees() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let writer = bench.acquire_lease().await;
    #[allow(clippy::disallowed_methods)]
    let here = chrono::Utc::now();
    writer.agreed_time(here).await.unwrap();
    for days in [-40, 40] {
        let error = writer.agreed_time(here + chrono::TimeDelta::days(days)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    }
    writer.release().await.unwrap();
}
