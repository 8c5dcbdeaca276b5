//! Choosing a source when a member does not answer the first requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::topology::StaticMembers;
use backstop_engine::ports::Topology;
use backstop_engine::source_selection::{SourceChoiceRules, choose};
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_testkit::snapshot_conformance::test_context;
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::error::{ErrorKind, Result};
use backstop_types::freeze::OnPrimary;
use backstop_types::ids::Endpoint;
use backstop_types::topology::{Locking, Member, NoAnswer, SourceRules};

/// Shard with members that are too busy to answer the first times.
struct Busy {
    shard: StaticMembers,
    who: fn(&Member) -> bool,
    times: AtomicU32,
}

#[async_trait]
impl Topology for Busy {
    async fn members(&self) -> Result<Vec<Member>> {
        let mut members = self.shard.members().await?;
        let busy =
            self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        for member in members.iter_mut().filter(|member| busy && (self.who)(member)) {
            member.state = Err(NoAnswer::Unreachable("no answer within 5s".to_owned()));
        }
        Ok(members)
    }
    async fn probe(&self, server: &Endpoint) -> Member {
        self.shard.probe(server).await
    }
    async fn source_settings(&self, primary: &Endpoint) -> Result<SourceSettings> {
        self.shard.source_settings(primary).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_candidate_is_asked_again_before_the_primary_is_used() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    let rules = SourceRules { any_replica: true, max_lag: std::time::Duration::from_secs(60) };
    let asked = SourceChoiceRules { source: &rules, on_primary: OnPrimary::Lock, locking: Locking::Possible };
    let ends = shard.endpoints();
    let chosen = async |who: fn(&Member) -> bool, times| {
        let members =
            StaticMembers::new(Connector::new(&shard.credentials()), ends.clone(), Some(ends[1].clone()));
        let busy = Busy { shard: members, who, times: AtomicU32::new(times) };
        let choice = choose(&test_context(), &busy, asked).await;
        choice.map(|choice| choice.endpoint).map_err(|error| error.kind)
    };
    let candidate = |member: &Member| member.candidate;
    assert_eq!(chosen(candidate, 2).await, Ok(ends[1].clone()), "it answers the third time");
    assert_eq!(chosen(candidate, 3).await, Ok(ends[0].clone()), "it is down: the primary is taken");
    assert_eq!(chosen(|_| true, 2).await, Ok(ends[1].clone()));
    assert_eq!(chosen(|_| true, 3).await, Err(ErrorKind::Failed));
}
