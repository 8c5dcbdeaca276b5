//! Queries the members of a real shard.

use std::time::Duration;

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::topology::StaticMembers;
use backstop_engine::ports::Topology;
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::topology::{InstanceState, Member, NoAnswer};

fn members(shard: &TestShard) -> StaticMembers {
    let candidate = Some(shard.candidate().endpoint());
    StaticMembers::new(Connector::new(&shard.credentials()), shard.endpoints(), candidate)
}

fn state(members: &[Member], index: usize) -> &InstanceState {
    members[index].state.as_ref().unwrap_or_else(|why| panic!("member {index} {why}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_reported_as_replication_breaks() {
    let layout = ShardLayout { grants: vec!["base"], ..ShardLayout::default() };
    let shard = TestShard::start(layout.option("plugin_load_add = semisync_replica.so")).await;
    let topology = members(&shard);

    let seen = topology.members().await.unwrap();
    let primary = state(&seen, 0);
    assert!(primary.replication.is_none() && !primary.read_only && primary.gtid_mode_on);
    assert_eq!(primary.server_id, 101);
    for index in [1, 2] {
        let replica = state(&seen, index);
        let channel = replica.replication.as_ref().expect("it replicates");
        assert!(channel.io_running && channel.sql_running && channel.auto_position && replica.read_only);
        assert_eq!((&channel.source, channel.source_uuid), (&seen[0].endpoint, Some(primary.server_uuid)));
        assert_eq!((channel.delay, &channel.last_error), (Duration::ZERO, &None));
        assert_ne!(replica.server_uuid, primary.server_uuid);
    }
    assert_eq!([seen[0].candidate, seen[1].candidate, seen[2].candidate], [false, true, false]);

    // A delayed and stopped candidate; a replica with an extra transaction that acknowledges
    // semi-synchronously.
    shard
        .candidate()
        .run(&["STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY=7", "START REPLICA IO_THREAD"])
        .await;
    shard
        .replica()
        .run(&[
            "SET GLOBAL super_read_only=OFF",
            "CREATE DATABASE errant",
            "SET GLOBAL super_read_only=ON",
            "SET GLOBAL rpl_semi_sync_replica_enabled=ON",
        ])
        .await;
    shard.primary().run(&["CREATE DATABASE more"]).await;
    shard.replica().wait_for(&shard.primary().gtid_executed().await).await;
    let seen = topology.members().await.unwrap();
    let delayed = state(&seen, 1).replication.clone().expect("it replicates");
    assert_eq!((delayed.sql_running, delayed.lag, delayed.delay), (false, None, Duration::from_secs(7)));
    assert!(state(&seen, 1).gtid_executed.is_subset_of(&state(&seen, 0).gtid_executed));
    let errant = state(&seen, 2).gtid_executed.subtract(&state(&seen, 0).gtid_executed);
    assert_eq!((errant.count(), errant.uuids()), (1, vec![state(&seen, 2).server_uuid]));
    assert!(state(&seen, 2).semi_sync_replica && !state(&seen, 0).semi_sync_replica);

    // The state distinguishes a receiver with a wrong password, a dead member and a locked account.
    shard
        .candidate()
        .run(&[
            "STOP REPLICA",
            "CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD='wrong', SOURCE_RETRY_COUNT=1",
            "START REPLICA",
        ])
        .await;
    let error = loop_until_error(&topology).await;
    assert!(error.contains("backstop_replication"), "{error}");
    shard.replica().kill();
    shard.primary().run(&["ALTER USER backstop@'%' ACCOUNT LOCK"]).await;
    let seen = topology.members().await.unwrap();
    assert!(
        matches!(&seen[0].state, Err(NoAnswer::Denied(why)) if why.contains("ACCOUNT UNLOCK")),
        "{:?}",
        seen[0]
    );
    assert!(matches!(&seen[2].state, Err(NoAnswer::Unreachable(_))), "{:?}", seen[2]);
}

async fn loop_until_error(topology: &StaticMembers) -> String {
    for _ in 0..600 {
        let seen = topology.members().await.unwrap();
        let channel = state(&seen, 1).replication.clone().expect("it replicates");
        if let Some(error) = channel.last_error {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the candidate reports no error");
}
