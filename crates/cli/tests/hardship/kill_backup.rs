//! SIGKILL at every step of `backup`, before and after its effect.

use backstop_testkit::{ShardLayout, TestShard, TestVolume, tables};

use crate::support::program::{Backstop, points};
use crate::support::source_unharmed::{nothing_left, unharmed};

const BACKUP: &str = "backup orders";

/// Kills a backup at a point, checks for harm, and lets the next one succeed.
async fn survives(shard: &TestShard, backstop: &Backstop, more: &str, point: &str) {
    let before = backstop.backups().await;
    backstop.killed(&format!("{BACKUP} {more}"), point).await;
    unharmed(shard).await;
    let visible = backstop.backups().await;
    let committed = usize::from(is_committed(point));
    assert_eq!(visible.len(), before.len() + committed, "backups that are visible after {point}");
    assert_eq!(visible[committed..], before, "older backups after {point}");
    let next = backstop.json(&format!("{BACKUP} {more}")).await;
    assert_eq!(backstop.backups().await[0], next["backup_id"].as_str().unwrap());
    nothing_left(shard, backstop).await;
}

/// Returns true if the point is after the commit, from which a backup is visible, whatever happens
/// to the run.
fn is_committed(point: &str) -> bool {
    point == "after:commit" || ["clear", "release"].iter().any(|step| point.ends_with(step))
}

#[tokio::test(flavor = "multi_thread")]
async fn clone_backup_survives_a_kill_at_every_step() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    tables::fill(shard.primary(), 2, 2_000).await;
    shard.settle().await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("init").await;
    let steps = [
        "choose",
        "check",
        "claim",
        "snapshot",
        "clone",
        "prove-copy",
        "store",
        "commit",
        "clear",
        "release",
    ];
    for point in points(&steps) {
        survives(&shard, &backstop, "", &point).await;
    }
    let verified = backstop.json("verify orders --content").await;
    assert_eq!(verified["ok"], true, "{verified}");
}

/// A single server, so that an outside session commits on the very server that is frozen; then
/// `prune`.
#[tokio::test(flavor = "multi_thread")]
async fn btrfs_backup_and_prune_survive_a_kill_at_every_step() {
    let Some(volume) = TestVolume::btrfs(3000) else { return };
    volume.subvolume("shard/m1/data");
    let base = Some(volume.path.join("shard"));
    let shard = TestShard::start(ShardLayout { base, ..ShardLayout::single() }).await;
    tables::fill(shard.primary(), 2, 2_000).await;
    let backstop = Backstop::of(&shard, "btrfs").await;
    backstop.json("init").await;
    let free = "--set shards.orders.freeze.mode=lock-free";
    for point in points(&["freeze", "image", "thaw", "read-tail", "store"]) {
        survives(&shard, &backstop, free, &point).await;
    }
    let lock = "--set shards.orders.freeze.mode=lock";
    for point in points(&["freeze", "image", "thaw"]) {
        survives(&shard, &backstop, lock, &point).await;
    }
    for point in points(&["claim", "condemn", "sweep", "release"]) {
        pruning_survives(&shard, &backstop, &point).await;
    }
    let verified = backstop.json("verify orders --content").await;
    assert_eq!(
        (&verified["ok"], &verified["shards"][0]["unreferenced"]),
        (&true.into(), &0.into()),
        "{verified}"
    );
}

/// Kills a prune that deletes all backups but the newest.
async fn pruning_survives(shard: &TestShard, backstop: &Backstop, point: &str) {
    const PRUNE: &str = "prune orders --apply --yes-really --set shards.orders.retention.daily=1";
    let newest = backstop.json("backup orders").await["backup_id"].as_str().unwrap().to_owned();
    let before = backstop.backups().await;
    assert!(before.len() > 1 && before[0] == newest, "{before:?}");
    backstop.killed(PRUNE, point).await;
    unharmed(shard).await;
    let is_condemned = !["before:claim", "after:claim", "before:condemn"].contains(&point);
    let visible = if is_condemned { vec![newest.clone()] } else { before };
    assert_eq!(backstop.backups().await, visible, "backups that are visible after {point}");
    let pruned = backstop.json(PRUNE).await;
    assert_eq!(pruned["shards"][0]["applied"], true, "{pruned}");
    assert_eq!(backstop.backups().await, [newest], "after the next prune");
    nothing_left(shard, backstop).await;
}
