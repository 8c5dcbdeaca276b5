//! SIGKILL at every step of `backup`, before and after its effect.

use backstop_testkit::{Layout, Shard, Volume, tables};

use crate::harm::{nothing_left, unharmed};
use crate::program::Backstop;

const BACKUP: &str = "backup orders";

/// Kills a backup at a point, looks what harm that did, and lets the next one succeed.
async fn survives(shard: &Shard, backstop: &Backstop, more: &str, point: &str) {
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

/// From the commit on a backup is visible, whatever happens to the run.
fn is_committed(point: &str) -> bool {
    point == "after:commit" || ["clear", "release"].iter().any(|step| point.ends_with(step))
}

fn points(steps: &[&str]) -> Vec<String> {
    steps.iter().flat_map(|step| [format!("before:{step}"), format!("after:{step}")]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_clone() {
    let shard = Shard::start(Layout { members: 2, ..Layout::default() }).await;
    tables::fill(shard.primary(), 2, 2_000).await;
    shard.settle().await;
    let backstop = Backstop::of(&shard, "clone").await;
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
