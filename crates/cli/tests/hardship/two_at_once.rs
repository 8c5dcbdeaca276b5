//! Two simultaneous backups of a shard, and one that was stopped at a critical point.

use std::time::Duration;

use backstop_testkit::{ShardLayout, TestShard, TestVolume, tables};
use rustix::process::Signal;

use crate::support::program::{Backstop, until};
use crate::support::source_unharmed::{LOCKS, nothing_left, unharmed, value_becomes};

async fn on(volume: &TestVolume) -> (TestShard, Backstop) {
    volume.subvolume("shard/m1/data");
    let base = Some(volume.path.join("shard"));
    let shard = TestShard::start(ShardLayout { base, ..ShardLayout::single() }).await;
    tables::fill(shard.primary(), 1, 1_000).await;
    let backstop = Backstop::of(&shard, "btrfs").await;
    (shard, backstop)
}

#[tokio::test(flavor = "multi_thread")]
async fn second_backup_is_refused_and_a_superseded_one_fails() {
    let Some(volume) = TestVolume::btrfs(2000) else { return };
    let (shard, backstop) = on(&volume).await;
    a_living_one_is_respected(&shard, &backstop).await;

    let first = backstop.spawn("backup orders", Some("stop@before:commit"));
    first.stopped().await;
    unharmed(&shard).await;
    let before = backstop.backups().await;
    // The second backup waits until the first has sent no heartbeat for the time after which a run
    // counts as dead.
    let second = backstop.json("backup orders").await;
    first.signal(Signal::CONT);
    first.end().await.failed(11, &["orders"]);
    let mut expected = vec![second["backup_id"].as_str().unwrap().to_owned()];
    expected.extend(before);
    assert_eq!(backstop.backups().await, expected, "the superseded run committed nothing");
    backstop.json("backup orders").await;
    nothing_left(&shard, &backstop).await;
    assert_eq!(backstop.json("verify orders --content").await["ok"], true);
}

/// While the first backup waits for a long query to end, it sends heartbeats.
async fn a_living_one_is_respected(shard: &TestShard, backstop: &Backstop) {
    let mut slow = shard.primary().root().await;
    let long: u64 = slow.one("SELECT CONNECTION_ID()").await.unwrap();
    let query = tokio::spawn(async move {
        let _ = slow.query_within::<(u64,)>("SELECT SLEEP(100)", Duration::from_secs(120)).await;
    });
    let running = format!(
        "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_ID = {long} AND PROCESSLIST_TIME > 1 AND PROCESSLIST_INFO LIKE 'SELECT SLEEP%'"
    );
    value_becomes(shard.primary(), &running, "1", Duration::from_secs(20)).await;
    let first = backstop.spawn(
        "--json backup orders --set shards.orders.freeze.mode=lock --set shards.orders.freeze.wait=100s",
        None,
    );
    let told = || format!("the first does not get to the freeze: {}", first.told());
    until(Duration::from_secs(60), told, || first.told().contains("\"freeze\"")).await;
    let second = backstop.run("backup orders").await;
    second.failed(11, &["orders", &first.pid().to_string(), "backup"]);
    shard.primary().run(&[&format!("KILL {long}")]).await;
    first.end().await.json();
    let _ = query.await;
    nothing_left(shard, backstop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_is_released_when_a_frozen_backup_stops() {
    let Some(volume) = TestVolume::btrfs(2000) else { return };
    let (shard, backstop) = on(&volume).await;
    let line = "backup orders --set shards.orders.freeze.mode=lock --set shards.orders.freeze.hold=2s";
    for point in ["after:freeze", "before:thaw"] {
        let run = backstop.spawn(line, Some(&format!("stop@{point}")));
        run.stopped().await;
        // Both the global lock and the commit lock are held; otherwise the rest would prove
        // nothing.
        let held: u32 = shard.primary().value(LOCKS).await.parse().unwrap();
        assert!(held >= 2 || point == "before:thaw", "the server is frozen at {point}: {held} locks");
        unharmed(&shard).await;
        run.signal(Signal::CONT);
        let ended = run.end().await;
        assert_eq!(ended.status.code(), Some(1), "{ended}");
        assert_eq!(backstop.backups().await, Vec::<String>::new(), "no backup after {point}");
        nothing_left(&shard, &backstop).await;
    }
    backstop.json(line).await;
    nothing_left(&shard, &backstop).await;
}
