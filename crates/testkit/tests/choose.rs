//! Choosing a source when a member does not answer at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use backstop_adapters::mysql::connect::Connector;
use backstop_adapters::topology::Members;
use backstop_engine::choose::{Rules, choose};
use backstop_engine::ports::Topology;
use backstop_model::fault::{Kind, Result};
use backstop_model::freeze::OnPrimary;
use backstop_model::topology::{Locking, Member, SourceRules, Unusable};
use backstop_testkit::snapshots::world;
use backstop_testkit::{Layout, Shard};

/// A shard some of whose members are too busy to answer the first times.
struct Busy {
    shard: Members,
    who: fn(&Member) -> bool,
    times: AtomicU32,
}

#[async_trait]
impl Topology for Busy {
    async fn look(&self) -> Result<Vec<Member>> {
        let mut members = self.shard.look().await?;
        let busy =
            self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        for member in members.iter_mut().filter(|member| busy && (self.who)(member)) {
            member.state = Err(Unusable::Unreachable("no answer within 5s".to_owned()));
        }
        Ok(members)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_candidate_is_asked_again_before_the_primary_is_taken() {
    let shard = Shard::start(Layout { members: 2, ..Layout::default() }).await;
    let rules = SourceRules { any_replica: true, max_lag: std::time::Duration::from_secs(60) };
    let asked = Rules { source: &rules, on_primary: OnPrimary::Lock, locking: Locking::Possible };
    let ends = shard.endpoints();
    let chosen = async |who: fn(&Member) -> bool, times| {
        let members = Members::new(Connector::new(&shard.credentials()), ends.clone(), Some(ends[1].clone()));
        let busy = Busy { shard: members, who, times: AtomicU32::new(times) };
        let choice = choose(&world(), &busy, asked).await;
        choice.map(|choice| choice.endpoint).map_err(|fault| fault.kind)
    };
    let candidate = |member: &Member| member.candidate;
    assert_eq!(chosen(candidate, 2).await, Ok(ends[1].clone()), "it answers the third time");
    assert_eq!(chosen(candidate, 3).await, Ok(ends[0].clone()), "it is down: the primary is taken");
    assert_eq!(chosen(|_| true, 2).await, Ok(ends[1].clone()));
    assert_eq!(chosen(|_| true, 3).await, Err(Kind::Failed));
}
