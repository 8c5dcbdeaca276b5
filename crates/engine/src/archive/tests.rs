//! Runs of the archiver with played servers, in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod fake_server;

use backstop_config::settings::ArchiveAck;
use backstop_types::error::ErrorKind;

use crate::disk::failing::FailMode;
use bench::Bench;
use fake_server::FakeServer;

#[tokio::test]
async fn archiver_stores_everything_until_it_has_caught_up() {
    let bench = Bench::new();
    bench.primary().rotate();
    bench.commit(11..=14);
    let report = bench.catch_up().await.unwrap();
    assert_eq!((report.transactions, report.archived), (14, bench.set("A:1-14")));
    assert_eq!(bench.held().await, bench.set("A:1-14"));
    assert_eq!(bench.spooled(), [] as [std::path::PathBuf; 0]);
}

#[tokio::test]
async fn archiver_stores_new_transactions_until_it_is_stopped() {
    let bench = Bench::new();
    let report = bench.archive_during(async {
        bench.until_held("A:1-10").await;
        bench.commit(11..=11);
        bench.until_held("A:1-11").await;
    });
    let report = report.await.unwrap();
    assert_eq!((report.transactions, report.is_well()), (11, true));
    assert_eq!(report.source.as_ref(), Some(&bench.primary().endpoint));
}

#[tokio::test]
async fn archiver_resumes_after_its_last_segment_when_started_again() {
    let bench = Bench::new();
    bench.catch_up().await.unwrap();
    bench.commit(11..=12);
    let report = bench.catch_up().await.unwrap();
    assert_eq!(report.transactions, 2);
    let archive = bench.archived().await;
    assert_eq!(archive.timelines.len(), 1);
    let [first, second] = archive.segments.as_slice() else { panic!("{:?}", archive.segments) };
    assert_eq!((first.file.as_str(), first.end), (second.file.as_str(), second.start));
}

#[tokio::test]
async fn archiver_reconnects_when_the_source_ends_its_sessions() {
    let bench = Bench::new();
    let report = bench.archive_during(async {
        bench.until_held("A:1-10").await;
        bench.primary().disconnect();
        bench.commit(11..=12);
        bench.until_held("A:1-12").await;
    });
    assert_eq!(report.await.unwrap().transactions, 12);
}

#[tokio::test]
async fn archiver_continues_timeline_when_a_complete_server_is_promoted() {
    let bench = Bench::new();
    let report = bench.archive_during(async {
        bench.until_held("A:1-10").await;
        bench.switch_over();
        bench.replica().commit(bench.replica().uuid, 1..=3, 40);
        bench.until_held("A:1-10,B:1-3").await;
    });
    let report = report.await.unwrap();
    assert!(report.is_well(), "{report:?}");
    assert_eq!(report.source.as_ref(), Some(&bench.replica().endpoint));
    assert_eq!(bench.archived().await.timelines.len(), 1);
}

#[tokio::test]
async fn archiver_begins_timeline_when_promoted_server_lacks_transactions() {
    let bench = Bench::new();
    bench.primary().commit(bench.primary().uuid, 11..=12, 40);
    let report = bench.archive_during(async {
        bench.until_held("A:1-12").await;
        bench.switch_over();
        bench.replica().commit(bench.replica().uuid, 1..=3, 40);
        bench.until_held("A:1-10,B:1-3").await;
    });
    let report = report.await.unwrap();
    let [fork] = report.forks.as_slice() else { panic!("{report:?}") };
    assert_eq!((fork.source, &fork.lacks), (bench.replica().uuid, &bench.set("A:11-12")));
    let archive = bench.archived().await;
    assert_eq!(archive.timelines.len(), 2);
    assert_eq!(archive.held(1), Some(bench.set("A:1-12")), "the old timeline keeps them");
}

#[tokio::test]
async fn archiver_begins_timeline_when_source_reuses_its_gtids() {
    let bench = Bench::new();
    bench.catch_up().await.unwrap();
    let primary = bench.primary();
    primary.set_back();
    primary.commit(primary.uuid, 1..=6, 40);
    primary.commit(primary.uuid, 7..=12, 50);
    let report = bench.catch_up().await.unwrap();
    let [fork] = report.forks.as_slice() else { panic!("{report:?}") };
    assert_eq!(fork.lacks, bench.set("A:7-10"));
    assert_eq!(bench.held().await, bench.set("A:1-12"));
    assert!(bench.told().contains("reused its transaction numbers"), "{}", bench.told());
}

#[tokio::test]
async fn archiver_reports_gap_when_binlogs_were_purged() {
    let bench = Bench::new();
    bench.catch_up().await.unwrap();
    bench.commit(11..=13);
    bench.primary().rotate();
    bench.primary().purge();
    bench.commit(14..=15);
    let report = bench.catch_up().await.unwrap();
    let [gap] = report.gaps.as_slice() else { panic!("{report:?}") };
    assert_eq!(gap.gtids, bench.set("A:11-13"));
    assert_eq!(report.transactions, 2);
}

#[tokio::test]
async fn archiver_refuses_server_of_another_shard() {
    let mut bench = Bench::new();
    bench.catch_up().await.unwrap();
    bench.servers = vec![FakeServer::new(0xcc)];
    bench.servers[0].set_primary(true);
    bench.servers[0].commit(bench.servers[0].uuid, 1..=4, 40);
    let error = bench.catch_up().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("shares no transaction"), "{error}");
}

#[tokio::test]
async fn archiver_refuses_encrypted_source_without_encrypted_repository() {
    let bench = Bench::new();
    bench.primary().encrypt();
    let error = bench.catch_up().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("plain text"), "{error}");
}

#[tokio::test]
async fn archiver_refuses_source_without_gtids() {
    let bench = Bench::new();
    bench.primary().set_gtid_mode("OFF_PERMISSIVE");
    let error = bench.catch_up().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("gtid_mode"), "{error}");
}

#[tokio::test]
async fn archiver_waits_while_no_primary_answers() {
    let bench = Bench::new();
    bench.primary().set_up(false);
    let report = bench.archive_during(async {
        bench.until_told("primary").await;
        bench.primary().set_up(true);
        bench.until_held("A:1-10").await;
    });
    assert_eq!(report.await.unwrap().transactions, 10);
    assert!(bench.told().contains("the stream works again"), "{}", bench.told());
}

#[tokio::test]
async fn archiver_fails_after_some_rounds_when_it_may_not_wait() {
    let bench = Bench::new();
    bench.primary().set_up(false);
    let error = bench.catch_up().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
}

#[tokio::test]
async fn archiver_continues_when_the_disk_refused_a_write() {
    let bench = Bench::new();
    bench.disk.writes.lock().unwrap().extend([FailMode::Short, FailMode::Error]);
    let report = bench.archive_during(bench.until_held("A:1-10")).await.unwrap();
    assert_eq!(report.transactions, 10);
    assert!(bench.told().contains("cannot write the spool"), "{}", bench.told());
}

#[tokio::test]
async fn archiver_requests_again_what_its_disk_lost() {
    let mut bench = Bench::new();
    bench.begins_down = true;
    let report = bench.archive_during(async {
        let end = bench.primary().position().1;
        let size = |path: &std::path::PathBuf| std::fs::metadata(path).unwrap().len();
        bench.until("the spool", || async { bench.spooled().first().map(size) == Some(end) }).await;
        std::fs::write(&bench.spooled()[0], "lost").unwrap();
        bench.store.set_down(false);
        bench.until_held("A:1-10").await;
    });
    assert_eq!(report.await.unwrap().transactions, 10);
    assert!(bench.told().contains("requesting the transactions that are not archived"), "{}", bench.told());
}

#[tokio::test]
async fn archiver_stores_what_waited_when_the_store_answers_again() {
    let bench = Bench::new();
    let report = bench.archive_during(async {
        bench.until_held("A:1-10").await;
        bench.store.set_down(true);
        bench.commit(11..=14);
        bench.until_told("the store is down").await;
        bench.store.set_down(false);
        bench.until_held("A:1-14").await;
    });
    assert_eq!(report.await.unwrap().transactions, 14);
    assert!(bench.told().contains("the store works again"), "{}", bench.told());
}

#[tokio::test]
async fn archiver_is_interrupted_when_the_store_is_down_at_its_stop() {
    let mut bench = Bench::new();
    bench.begins_down = true;
    let stopped = bench.archive_during(async {
        bench.until("the spool", || async { !bench.spooled().is_empty() }).await;
    });
    let error = stopped.await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted);
    assert!(error.hint.unwrap().contains("restart the archiver"));
    bench.begins_down = false;
    assert_eq!(bench.catch_up().await.unwrap().transactions, 10);
}

#[tokio::test]
async fn archiver_acknowledges_only_what_the_store_has() {
    let mut bench = Bench::new();
    bench.settings.semi_sync = true;
    let report = bench.archive_during(async {
        let told = || async { bench.primary().acknowledged() == Some(bench.primary().position()) };
        bench.until("the acknowledgement", told).await;
        assert_eq!(bench.held().await, bench.set("A:1-10"));
        let before = bench.primary().acknowledged();
        bench.store.set_down(true);
        bench.commit(11..=11);
        bench.until_told("the store is down").await;
        assert_eq!(bench.primary().acknowledged(), before);
        bench.store.set_down(false);
        bench.until("the acknowledgement", told).await;
    });
    assert_eq!(report.await.unwrap().transactions, 11);
}

#[tokio::test]
async fn archiver_acknowledges_from_its_spool_when_a_sync_failed_before() {
    let mut bench = Bench::new();
    (bench.settings.semi_sync, bench.settings.ack) = (true, ArchiveAck::Spool);
    bench.begins_down = true;
    bench.disk.syncs.lock().unwrap().push_back(FailMode::Error);
    let stopped = bench.archive_during(async {
        let told = || async { bench.primary().acknowledged() == Some(bench.primary().position()) };
        bench.until("the acknowledgement", told).await;
    });
    assert_eq!(stopped.await.unwrap_err().kind, ErrorKind::Interrupted);
    // The source is gone: the next archiver has the transactions from the spool.
    bench.begins_down = false;
    bench.primary().set_up(false);
    assert!(bench.catch_up().await.is_err());
    assert_eq!(bench.held().await, bench.set("A:1-10"));
}
