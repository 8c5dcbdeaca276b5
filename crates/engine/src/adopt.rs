//! Adopt: assigns a shard's name to the history that its members have now, after a rebuild from a
//! dump or a deliberate reset.

use backstop_policy::topology::current_primary;
use backstop_repo::Repository;
use backstop_types::adopted::Adopted;
use backstop_types::error::{ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ShardName;
use backstop_types::topology::InstanceState;

use crate::context::RunContext;
use crate::ports::Topology;
use crate::report::AdoptReport;

/// Inputs of an adoption.
pub struct Adopt<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Its current members.
    pub topology: &'a dyn Topology,
    /// Its backups and archive.
    pub repository: &'a Repository,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
}

/// Assigns the shard's name to the history of its primary, whose backups are accepted from then on.
/// Stored data stays as it is. If the archive has nothing in common with that history, a new
/// timeline begins.
///
/// # Errors
/// Fails if no primary is found. Returns [`ErrorKind::Held`] if a backup holds the shard, or the
/// archiver of an archive that needs a new timeline.
pub async fn adopt(adopt: &Adopt<'_>) -> Result<AdoptReport> {
    let members = adopt.ctx.unless_stopped(adopt.topology.members()).await?;
    let (endpoint, primary) = current_primary(&members)?;
    let servers = members.iter().filter_map(|member| Some(member.state.as_ref().ok()?.server_uuid)).collect();
    let adopted =
        Adopted { at: adopt.ctx.host.clock.now(), servers, gtid_executed: primary.gtid_executed.clone() };
    adopt.ctx.reporter.remark(&format!("assigning the name {} to the history of {endpoint}", adopt.shard));
    let timeline = adopt.ctx.step("line", new_timeline(adopt, primary)).await?;
    let mut writer = adopt.ctx.step("claim", adopt.repository.acquire_lease(adopt.shard, "adopt")).await?;
    let newest = writer.reader().catalog().await?.last().map(|entry| entry.facts.backup_id.clone());
    adopt.ctx.step("adopt", writer.adopt(adopted.clone())).await?;
    adopt.ctx.step("release", writer.release()).await?;
    Ok(AdoptReport { shard: adopt.shard.clone(), adopted, newest_backup: newest, timeline })
}

/// Begins a timeline for a history that has nothing in common with the current one.
async fn new_timeline(adopt: &Adopt<'_>, primary: &InstanceState) -> Result<Option<u32>> {
    let strange = |archive: &backstop_types::archive::Archive| -> Option<GtidSet> {
        let held = archive.held(archive.current()?.number)?;
        let strange = !held.is_empty() && held.intersect(&primary.gtid_executed).is_empty();
        strange.then_some(held)
    };
    if strange(&adopt.repository.archive(adopt.shard).contents().await?).is_none() {
        return Ok(None);
    }
    let claim = adopt.repository.acquire_archive_lease(adopt.shard).await;
    let writer = claim.map_err(|error| match error.kind {
        ErrorKind::Held => {
            error.hint(format!("stop the archiver of shard {}, then repeat this command", adopt.shard))
        }
        _ => error,
    })?;
    writer.seal_tail().await?;
    let held = strange(&writer.contents().await);
    let number = match held {
        Some(held) => {
            // Purged transactions cannot be archived: the timeline contains them from its
            // beginning.
            let begun = writer.begin_timeline(
                primary.server_uuid,
                &primary.gtid_purged,
                &held,
                adopt.ctx.host.clock.now(),
            );
            Some(begun.await?)
        }
        None => None,
    };
    writer.release().await?;
    Ok(number)
}
