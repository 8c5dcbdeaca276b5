//! The archive holds the servers' files byte for byte, through restarts and other disturbances.

use backstop_testkit::{ShardLayout, TestShard, TestWorkload};
use rustix::process::Signal;

use crate::support::program::Backstop;
use crate::support::stored_archive::{ARCHIVE, assert_identical, contents, held};

/// Returns a server that grants Backstop only the privileges that archiving needs.
pub fn single() -> ShardLayout {
    ShardLayout { grants: vec!["base", "replication"], ..ShardLayout::single() }
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_is_byte_identical_after_restarts_and_kills() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let workload = TestWorkload::start(primary).await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    backstop.json(&caught_up).await;
    for round in 0..4 {
        let archiver = backstop.spawn(ARCHIVE, None);
        workload.wait_for_more(200).await;
        primary.run(&["FLUSH BINARY LOGS"]).await;
        workload.wait_for_more(200).await;
        match round % 2 {
            0 => {
                archiver.signal(Signal::TERM);
                let ran = archiver.end().await;
                assert_eq!(ran.status.code(), Some(0), "{ran}");
            }
            _ => {
                archiver.signal(Signal::KILL);
                archiver.end().await;
            }
        }
    }
    workload.stop().await;
    let last = backstop.json(&caught_up).await;
    assert_eq!(last["gaps"].as_array().unwrap().len(), 0, "{last}");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert!(assert_identical(&backstop, primary).await.len() >= 5);
    let archive = contents(&backstop).await;
    let mut all = backstop_types::gtid::GtidSet::new();
    for segment in &archive.segments {
        assert!(all.intersect(&segment.gtids).is_empty(), "twice: {}", segment.name());
        all = all.union(&segment.gtids);
    }
    assert_eq!(archive.timelines.len(), 1);
}
