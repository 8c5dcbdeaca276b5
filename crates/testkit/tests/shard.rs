//! Tests of the test shard.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use backstop_testkit::workload::missing_on;
use backstop_testkit::{ShardLayout, TestShard, TestWorkload, tables};

#[tokio::test(flavor = "multi_thread")]
async fn shard_replicates_and_leaves_no_files() {
    let shard = TestShard::start(ShardLayout::default()).await;
    tables::fill(shard.primary(), 2, 500).await;
    let workload = TestWorkload::start(shard.primary()).await;
    workload.wait_for_more(50).await;
    let written = workload.stop().await;
    shard.settle().await;

    assert!(written.rows.len() >= 50);
    for member in &shard.members {
        assert_eq!(missing_on(&written, member).await, Vec::<u64>::new());
        assert_eq!(tables::checksums(member).await, tables::checksums(shard.primary()).await);
    }
    shard.replica().kill();
    shard.replica().start().await;
    let base = shard.base().to_owned();
    let pids: Vec<_> = shard.members.iter().filter_map(|member| member.pid()).collect();
    assert_eq!(pids.len(), 3);
    drop(shard);
    assert!(
        !base.exists()
            && pids.into_iter().all(|pid| !backstop_adapters::mysql::mysqld_process::is_alive(pid))
    );
}
