//! Endings of recoveries, and their refusals.

use backstop_adapters::mysql::mysqld_process::signal;
use backstop_testkit::{ShardLayout, TestShard, TestWorkload};
use rustix::process::Signal;

use crate::random_history::{archived, forget_the_past};
use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents, uuid};

#[tokio::test(flavor = "multi_thread")]
async fn recover_joins_and_makes_a_primary_after_a_total_loss() {
    let mut shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);
    let workload = TestWorkload::start(shard.primary()).await;
    workload.wait_for_more(50).await;
    let all = shard.primary().gtid_executed().await;
    archived(&backstop, &all).await;
    shard.candidate().wait_for(&all).await;
    // The primary has purged transactions that a new replica needs: backup and archive have them.
    forget_the_past(shard.primary()).await;
    let joined = RecoveredServer::at(shard.base().join("j"));
    let report = joined.recover(&backstop, "--to latest --join").await;
    assert_eq!((&report["joined"], &report["ending"]), (&true.into(), &"join".into()));
    assert!(report["transactions_replayed"].as_u64().unwrap() >= 50, "{report}");
    drop(joined);

    let into = shard.base().join("p");
    let line = format!("recover orders --to latest --as-primary --into {}", into.display());
    backstop.run(&line).await.failed(20, &["answer", "--force-as-primary orders"]);
    backstop.run(&format!("{line} --force-as-primary other")).await.failed(2, &["--force-as-primary orders"]);
    assert!(!into.join("data").exists(), "nothing was touched");
    let moment = format!("before:{}:1", uuid(shard.primary()).await);
    backstop
        .run(&format!("recover orders --to {moment} --join --into {}", into.display()))
        .await
        .failed(21, &[]);

    let written = workload.stop().await;
    let held = shard.primary().gtid_executed().await;
    archived(&backstop, &held).await;
    let endpoints = shard.endpoints();
    // Members that hang are not lost: they would continue to write after they resume.
    for member in &shard.members {
        signal(member.pid().unwrap(), Signal::STOP).unwrap();
    }
    let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    backstop
        .run(&line)
        .await
        .failed(20, &["may be alive", &names[0], &names[1], "--force-as-primary orders"]);
    assert!(!into.join("data").exists(), "nothing was touched");
    shard.members.clear();
    let primary = RecoveredServer::at(into);
    backstop.run(&line).await.failed(11, &["stop the archiver"]);
    archiver.signal(Signal::TERM);
    archiver.end().await;
    let report = primary.recover(&backstop, "--to latest --as-primary").await;
    assert_eq!(report["ending"], "as-primary");
    assert_eq!(primary.held().await, held);
    assert_eq!(written.missing_on(&mut primary.root().await).await.unwrap(), Vec::<u64>::new());
    assert_eq!(primary.value("SELECT @@GLOBAL.read_only + @@GLOBAL.super_read_only").await, "0");
    for (name, value) in [("sync_binlog", "1"), ("innodb_flush_log_at_trx_commit", "1")] {
        assert_eq!(primary.value(&format!("SELECT @@GLOBAL.{name}")).await, value, "{name}");
    }
    let archive = contents(&backstop).await;
    let [_, new] = &archive.timelines[..] else { panic!("two lines: {:?}", archive.timelines) };
    assert_eq!(new.source.to_string(), primary.value("SELECT @@GLOBAL.server_uuid").await);
    assert!(new.lacks.is_empty(), "{}", new.lacks);

    // The archive continues with the recovered server.
    let port = report["server"]["port"].as_u64().unwrap();
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    let old = &endpoints[0].to_string();
    std::fs::write(&backstop.config, text.replace(old.as_str(), &format!("127.0.0.1:{port}"))).unwrap();
    let mut root = primary.root().await;
    // Its binlog has none of the recovered transactions: a restarted archiver continues all the
    // same.
    for name in ["afterwards", "again", "once_more"] {
        root.run(&format!("CREATE DATABASE {name}")).await.unwrap();
        let ran = backstop.run(&format!("--json {ARCHIVE} --until-caught-up")).await;
        assert_eq!(ran.status.code(), Some(0), "{ran}");
        assert!(ran.err.matches("archiving from").count() <= 3, "{ran}");
        let now = primary.held().await;
        assert_eq!(crate::support::stored_archive::held(&backstop).await, now);
        assert_eq!(contents(&backstop).await.timelines.len(), 2);
    }
    for name in ["killed", "killed_again", "killed_once_more"] {
        root.run(&format!("CREATE DATABASE {name}")).await.unwrap();
        let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);
        archived(&backstop, &primary.held().await).await;
        archiver.signal(Signal::KILL);
        let ran = archiver.end().await;
        assert!(ran.err.matches("archiving from").count() <= 3, "{ran}");
    }
    assert_eq!(contents(&backstop).await.timelines.len(), 2);
}
