//! Two runs at once, runs that died, runs that only seemed to, and stores that do not keep their word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstop_model::fault::Kind;
use backstop_model::identity::Adopted;
use backstop_repo::{Depth, RepoKey, Repository};
use chrono::{DateTime, Utc};
use support::strange::{Deed, Strange};
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
async fn a_second_run_is_told_who_holds_the_shard() {
    let bench = Bench::on(Arc::new(Strange::honest())).await;
    let _first = bench.claim().await;
    let fault = bench.repository.claim(&shard(), "prune").await.err().unwrap();
    assert_eq!((fault.kind, fault.kind.exit_code()), (Kind::Held, 11));
    for part in ["backup", &format!("pid {}", std::process::id()), "host ", "since 20"] {
        assert!(fault.message.contains(part), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_claim_at_once_one_wins() {
    let store = Arc::new(Strange::honest());
    let bench = Bench::on(store.clone()).await;
    let shard = shard();
    let claims = (0..6).map(|_| bench.repository.claim(&shard, "backup"));
    let outcomes = futures::future::join_all(claims).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1);
    assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|fault| fault.kind == Kind::Held));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_history_stays_in_the_log() {
    let bench = Bench::on(Arc::new(Strange::honest())).await;
    assert_eq!(bench.reader().adopted().await.unwrap(), None);
    let server = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let adopted = Adopted {
        at: at(0),
        servers: [server.parse().unwrap()].into(),
        gtid_executed: format!("{server}:1-5").parse().unwrap(),
    };
    let mut writer = bench.claim().await;
    writer.adopt(adopted.clone()).await.unwrap();
    writer.release().await.unwrap();
    bench.claim().await.release().await.unwrap();
    assert_eq!(bench.reader().adopted().await.unwrap(), Some(adopted));
}

/// Not a test by itself: plays the run that is killed while it holds the shard.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a child process by the test below"]
async fn child_that_dies_holding_the_shard() {
    let dir = std::env::var("BACKSTOP_TEST_DIR").unwrap();
    let repository = Repository::open(&support::location(dir.as_ref()), None).await.unwrap();
    let _writer = repository.claim(&shard(), "backup").await.unwrap();
    std::process::abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_on_this_host_is_superseded_at_once() {
    let bench = Bench::local().await;
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_dies_holding_the_shard"])
        .env("BACKSTOP_TEST_DIR", bench.dir())
        .output()
        .unwrap();
    assert!(!child.status.success());
    let dead = bench.reader().holder().await.unwrap().expect("the child claimed the shard");
    assert_ne!(dead.pid, std::process::id());
    // Its heartbeat comes and goes, so whoever waits for one sees a sign of life and is refused.
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

/// A run whose heartbeats do not arrive is taken for dead after the TTL; when it wakes up it can neither
/// commit, nor delete, nor release, although it still can write objects.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_wakes_up_after_being_superseded_changes_nothing() {
    let store = Arc::new(Strange::honest());
    let bench = Bench::on(store.clone()).await;
    let kept = bench.backup(&sample(), None).await;
    let mut sleeper = bench.claim().await;
    let stored = sleeper.store(&sample().tree(), None, &|_| {}).await.unwrap();
    let asleep = format!("heartbeats/{:020}", 4);
    store.obey(
        move |operation, key| {
            if operation == "put" && key.ends_with(&asleep) { Deed::Loses } else { Deed::Honest }
        },
    );
    let next = bench.claim().await;

    let id = next_id();
    let fault = sleeper.commit(facts(id.clone()), stored).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Held, "{fault}");
    assert!(fault.message.contains("superseded"), "{fault}");
    let fault = sleeper.condemn(std::slice::from_ref(&kept.facts.backup_id), at(0)).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Held, "{fault}");
    let plan = sleeper.sweep_plan(at(0), HOUR).await.unwrap();
    assert_eq!(sleeper.sweep(plan).await.unwrap_err().kind, Kind::Held);
    assert_eq!(sleeper.release().await.unwrap_err().kind, Kind::Held);

    let listed = next.reader().catalog().await.unwrap();
    assert_eq!(
        listed.iter().map(|entry| &entry.facts.backup_id).collect::<Vec<_>>(),
        [&kept.facts.backup_id]
    );
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let store = Arc::new(Strange::new(|_, _| Deed::IgnoresCondition));
    let bench = Bench::on(store.clone()).await;
    let fault = bench.repository.claim(&shard(), "backup").await.err().unwrap();
    assert_eq!(fault.kind, Kind::Refused, "{fault}");
    assert!(store.keys().await.is_empty(), "the probe was left behind");
}

/// As a file system without hard links, whose error is that of missing rights.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_conditions_is_told_from_one_that_denies_access() {
    let store = Arc::new(Strange::new(|_, _| Deed::RefusesCondition));
    let bench = Bench::on(store.clone()).await;
    let fault = bench.repository.probe().await.unwrap_err();
    assert_eq!(fault.kind, Kind::Refused, "{fault}");
    assert!(fault.hint.unwrap().contains("hard links"));
    assert!(store.keys().await.is_empty(), "the probe was left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_got_lost_is_no_conflict() {
    let store = Arc::new(Strange::new(|operation, key| {
        if operation == "put" && key.contains("/log/") { Deed::Repeats } else { Deed::Honest }
    }));
    let bench = Bench::on(store).await;
    let entry = bench.backup(&sample(), None).await;
    assert_eq!(bench.reader().catalog().await.unwrap(), [entry]);
}

/// Whatever object a store loses while it reports success: the run fails and nothing is listed.
#[tokio::test(flavor = "multi_thread")]
async fn success_is_not_said_of_what_the_store_lost() {
    for lost in ["/packs/", "/extents", "/fingerprints", "/manifest", "/log/"] {
        let store = Arc::new(Strange::honest());
        let bench = Bench::on(store.clone()).await;
        let mut writer = bench.claim().await;
        store.obey(
            move |operation, key| {
                if operation == "put" && key.contains(lost) { Deed::Loses } else { Deed::Honest }
            },
        );
        let stored = writer.store(&sample().tree(), None, &|_| {}).await.unwrap();
        let fault = writer.commit(facts(next_id()), stored).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Store, "{lost}: {fault}");
        assert!(fault.message.contains(lost), "{lost}: {fault}");
        assert!(bench.reader().catalog().await.unwrap().is_empty(), "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_an_error_and_the_next_run_succeeds() {
    for broken in ["/packs/", "/extents", "/fingerprints", "/manifest", "/log/"] {
        let store = Arc::new(Strange::honest());
        let bench = Bench::on(store.clone()).await;
        let mut writer = bench.claim().await;
        store.obey(
            move |operation, key| {
                if operation == "put" && key.contains(broken) { Deed::Fails } else { Deed::Honest }
            },
        );
        let outcome = async {
            let stored = writer.store(&sample().tree(), None, &|_| {}).await?;
            writer.commit(facts(next_id()), stored).await
        };
        let fault = outcome.await.unwrap_err();
        assert_eq!(fault.kind, Kind::Store, "{broken}: {fault}");
        assert!(fault.message.contains(broken), "{broken}: {fault}");
        store.obey(|_, _| Deed::Honest);
        let stored = writer.store(&sample().tree(), None, &|_| {}).await.unwrap();
        writer.commit(facts(next_id()), stored).await.unwrap();
        writer.release().await.unwrap();
        let report = bench.reader().verify(Depth::Content, &|_| {}).await.unwrap();
        assert!(report.damaged.is_empty() && report.backups.len() == 1, "{broken}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_only_takes_longer() {
    let store = Arc::new(Strange::new(|_, _| Deed::Dawdles));
    let bench = Bench::on(store).await;
    let sample = sample();
    let entry = bench.backup(&sample, None).await;
    assert!(bench.restored(&entry.facts.backup_id).await == sample.snapshot());
}

/// Requests that one increment of one changed block costs: they are paid for, and they are latency.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_increment_asks_of_the_store() {
    let store = Arc::new(Strange::honest());
    let bench = Bench::on(store.clone()).await;
    let sample = Sample::new();
    sample.write("a.ibd", &noise(1, 4 << 20));
    let first = bench.backup(&sample, None).await;
    sample.patch("a.ibd", 1 << 20, b"changed");
    store.take_counts();
    let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
    bench.backup(&sample, Some(&parent)).await;
    let counts = store.take_counts();
    // Claim, commit, release, a heartbeat with each, a pack, two index objects, a manifest.
    assert_eq!(counts["put"], 10, "{counts:?}");
    assert_eq!(counts["head"], 4, "{counts:?}");
    assert!(counts["get"] <= 24 && counts["list"] <= 12, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_plain_or_encrypted_never_both() {
    let plain: Arc<Strange> = Arc::new(Strange::honest());
    Bench::on(plain.clone()).await.backup(&sample(), None).await;
    let open = |store: &Arc<Strange>, key: Option<RepoKey>| {
        let store = store.clone();
        async move { Repository::on(store, key.as_ref()).await.err() }
    };
    assert_eq!(open(&plain, Some(support::key(1))).await.unwrap().kind, Kind::Usage);

    let sealed: Arc<Strange> = Arc::new(Strange::honest());
    let repository = Repository::on(sealed.clone(), Some(&support::key(1))).await.unwrap();
    let bench = Bench { repository, dir: None };
    let sample = sample();
    let entry = bench.backup(&sample, None).await;
    assert!(sealed.keys().await.iter().all(|key| !key.contains("orders")), "names tell the shard");
    for wrong in [None, Some(support::key(2))] {
        assert_eq!(open(&sealed, wrong).await.unwrap().kind, Kind::Usage);
    }

    bench.repository.rewrap(&support::key(2)).await.unwrap();
    assert_eq!(open(&sealed, Some(support::key(1))).await.unwrap().kind, Kind::Usage);
    let repository = Repository::on(sealed.clone(), Some(&support::key(2))).await.unwrap();
    assert_eq!(repository.shards().await.unwrap(), [shard()]);
    let bench = Bench { repository, dir: None };
    assert!(bench.restored(&entry.facts.backup_id).await == sample.snapshot());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_backups_go_after_the_grace_and_take_only_what_is_theirs() {
    let store = Arc::new(Strange::honest());
    let bench = Bench::on(store.clone()).await;
    let sample = sample();
    let first = bench.backup(&sample, None).await;
    let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
    sample.patch("a.ibd", 20_000, &noise(5, 20_000));
    let second = bench.backup(&sample, Some(&parent)).await;

    let mut writer = bench.claim().await;
    writer.condemn(std::slice::from_ref(&first.facts.backup_id), at(0)).await.unwrap();
    assert_eq!(writer.reader().condemned().await.unwrap().len(), 1);
    let early = writer.sweep_plan(at(3599), HOUR).await.unwrap();
    assert!(early.backups.is_empty());
    assert!(
        early.objects.iter().all(|(key, _)| !key.contains("/backups/") && !key.contains("/packs/")),
        "{early:?}"
    );

    let plan = writer.sweep_plan(at(3600), HOUR).await.unwrap();
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

    let mut writer = bench.claim().await;
    writer.condemn(std::slice::from_ref(&second.facts.backup_id), at(0)).await.unwrap();
    let plan = writer.sweep_plan(at(3600), HOUR).await.unwrap();
    writer.sweep(plan).await.unwrap();
    writer.release().await.unwrap();
    let left = store.keys().await;
    assert!(left.iter().all(|key| !key.contains("/packs/") && !key.contains("/backups/")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_good_for_its_own_claim_only() {
    let bench = Bench::on(Arc::new(Strange::honest())).await;
    let writer = bench.claim().await;
    let plan = writer.sweep_plan(at(0), HOUR).await.unwrap();
    writer.release().await.unwrap();
    let mut writer = bench.claim().await;
    assert_eq!(writer.sweep(plan).await.unwrap_err().kind, Kind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_its_newest_entries_only() {
    let store = Arc::new(Strange::honest());
    let bench = Bench::on(store.clone()).await;
    let entry = bench.backup(&sample(), None).await;
    for _ in 0..40 {
        bench.claim().await.release().await.unwrap();
    }
    let mut writer = bench.claim().await;
    let plan = writer.sweep_plan(at(0), HOUR).await.unwrap();
    writer.sweep(plan).await.unwrap();
    writer.release().await.unwrap();
    let kept = store.keys().await.iter().filter(|key| key.contains("/log/")).count();
    assert!((64..=67).contains(&kept), "{kept}");
    assert_eq!(bench.reader().catalog().await.unwrap(), [entry]);
    assert!(bench.reader().verify(Depth::Objects, &|_| {}).await.unwrap().damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_taken_back_within_its_grace_only() {
    let bench = Bench::on(Arc::new(Strange::honest())).await;
    let (first, second) = (bench.backup(&sample(), None).await, bench.backup(&sample(), None).await);
    let ids = [first.facts.backup_id.clone()];
    let mut writer = bench.claim().await;
    writer.condemn(&ids, at(0)).await.unwrap();
    let late = writer.undo(&ids, at(3600), HOUR).await.unwrap_err();
    assert_eq!(late.kind, Kind::NotRecoverable, "{late}");
    writer.undo(&ids, at(3599), HOUR).await.unwrap();
    assert_eq!(
        bench.reader().catalog().await.unwrap(),
        [first.clone(), second],
        "in the order they were made"
    );
    assert!(writer.sweep_plan(at(9999), HOUR).await.unwrap().backups.is_empty());
    assert_eq!(writer.undo(&ids, at(1), HOUR).await.unwrap_err().kind, Kind::NotRecoverable);
    writer.release().await.unwrap();
    bench.restored(&first.facts.backup_id).await;
}

/// The store's clock is right and this host's is not, or the other way round: neither deletes.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_the_store_does_not_agree_to_is_refused() {
    let bench = Bench::on(Arc::new(Strange::honest())).await;
    let writer = bench.claim().await;
    #[allow(clippy::disallowed_methods)]
    let here = chrono::Utc::now();
    writer.agreed_time(here).await.unwrap();
    for days in [-40, 40] {
        let fault = writer.agreed_time(here + chrono::TimeDelta::days(days)).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Refused, "{fault}");
    }
    writer.release().await.unwrap();
}
