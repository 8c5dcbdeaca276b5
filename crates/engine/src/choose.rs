//! Choosing the instance to back up, with patience: a backup is in no hurry.

use std::time::Duration;

use backstop_model::fault::{Fault, Result};
use backstop_model::freeze::OnPrimary;
use backstop_model::topology::{Choice, Locking, Member, SourceRules, Unusable, choose_source};

use crate::ports::Topology;
use crate::world::World;

/// How often members that do not answer are asked.
const LOOKS: u32 = 3;
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// By what an instance is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Which members may be backed up.
    pub source: &'a SourceRules,
    /// Whether the primary may be locked.
    pub on_primary: OnPrimary,
    /// Whether the snapshot may need a lock.
    pub locking: Locking,
}

/// Asks the shard's members and chooses one. While one does not answer, all are asked again, a few times: a server that is only
/// busy must not be passed over for the primary.
///
/// # Errors
/// As [`Topology::look`], and when no member may be backed up, with the reason for each.
pub async fn choose(world: &World, topology: &dyn Topology, rules: Rules<'_>) -> Result<Choice> {
    let mut members = topology.look().await?;
    for _ in 1..LOOKS {
        let silent = members.iter().find_map(|member| Some((&member.endpoint, silent(member)?)));
        let Some((endpoint, why)) = silent else { break };
        world.reporter.remark(&format!("{endpoint} {why}; asking again"));
        world.clock.sleep(PAUSE).await;
        members = topology.look().await?;
    }
    choose_source(&members, rules.source, rules.on_primary, rules.locking).map_err(Fault::from)
}

fn silent(member: &Member) -> Option<&Unusable> {
    member.state.as_ref().err().filter(|why| matches!(why, Unusable::Unreachable(_) | Unusable::Silent(_)))
}
