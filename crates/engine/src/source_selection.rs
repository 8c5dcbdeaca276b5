//! Chooses the instance to back up, with retries: a backup is not urgent.

use std::time::Duration;

use backstop_config::settings::ShardSettings;
use backstop_policy::topology::choose_source;
use backstop_types::error::{Error, Result};
use backstop_types::freeze::OnPrimary;
use backstop_types::topology::{Locking, Member, NoAnswer, SourceChoice, SourceRules};

use crate::context::RunContext;
use crate::ports::Topology;

/// Largest number of probes while a member does not answer.
const MAX_PROBES: u32 = 3;
/// Pause between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Rules for the choice of an instance.
#[derive(Debug, Clone, Copy)]
pub struct SourceChoiceRules<'a> {
    /// Rules for the members that may be backed up.
    pub source: &'a SourceRules,
    /// Permission to lock the primary.
    pub on_primary: OnPrimary,
    /// Lock that the snapshot may need.
    pub locking: Locking,
}

impl<'a> SourceChoiceRules<'a> {
    /// Returns the rules of a shard's configuration.
    pub fn of(settings: &'a ShardSettings) -> Self {
        Self {
            source: &settings.source,
            on_primary: settings.freeze.on_primary,
            locking: settings.snapshot.provider.locking(),
        }
    }
}

/// Probes the shard's members and chooses one. While a member does not answer, all are probed
/// again, up to `MAX_PROBES` times: a server that is only busy must not be passed over for the
/// primary.
///
/// # Errors
/// As [`Topology::look`], and if no member may be backed up, with the reason for each.
pub async fn choose(
    ctx: &RunContext,
    topology: &dyn Topology,
    rules: SourceChoiceRules<'_>,
) -> Result<SourceChoice> {
    let mut members = topology.members().await?;
    for _ in 1..MAX_PROBES {
        let silent = members.iter().find_map(|member| Some((&member.endpoint, silent(member)?)));
        let Some((endpoint, why)) = silent else { break };
        ctx.reporter.remark(&format!("{endpoint} {why}; retrying"));
        ctx.host.clock.sleep(PROBE_INTERVAL).await;
        members = topology.members().await?;
    }
    choose_source(&members, rules.source, rules.on_primary, rules.locking).map_err(Error::from)
}

fn silent(member: &Member) -> Option<&NoAnswer> {
    member.state.as_ref().err().filter(|why| matches!(why, NoAnswer::Unreachable(_) | NoAnswer::Silent(_)))
}
