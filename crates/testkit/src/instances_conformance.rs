//! Conformance suite of adapters that open the instance to back up.

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::topology::StaticMembers;
use backstop_engine::ports::{BackupInstances, Topology};
use backstop_policy::topology::choose_source;
use backstop_types::error::ErrorKind;
use backstop_types::freeze::OnPrimary;
use backstop_types::topology::{Locking, SourceChoice, SourceRules};

use crate::TestShard;
use crate::snapshot_conformance::assert_commits;

/// Checks that the adapter opens the chosen server, and refuses each address at which another one
/// answers or none does. The shard takes writes after each attempt.
pub async fn assert_opens_only_the_chosen_server(shard: &TestShard, instances: &dyn BackupInstances) {
    let chosen = choice(shard).await;
    let opened = instances.open(&chosen).await.unwrap_or_else(|error| panic!("open the chosen: {error}"));
    assert!(!opened.settings.is_empty(), "its settings are recorded");
    assert_commits(shard.primary()).await;

    let mut replaced = chosen.clone();
    replaced.state.server_uuid = "00000000-0000-4000-8000-000000000000".parse().expect("a UUID");
    let error = instances.open(&replaced).await.err().expect("another server is not opened");
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");
    assert!(error.message.contains("another server answers there"), "{error}");
    assert!(error.message.contains(&chosen.endpoint.to_string()) && error.hint.is_some(), "{error}");
    assert_commits(shard.primary()).await;

    let mut gone = chosen;
    gone.endpoint.port = 1;
    let error = instances.open(&gone).await.err().expect("no server is opened");
    assert!(error.message.contains(&gone.endpoint.to_string()), "{error}");
}

/// Returns the member that the rules choose.
async fn choice(shard: &TestShard) -> SourceChoice {
    let members = StaticMembers::new(Connector::new(&shard.credentials()), shard.endpoints(), None);
    let members = members.members().await.expect("the members");
    choose_source(&members, &SourceRules::default(), OnPrimary::Lock, Locking::Possible).expect("a source")
}
