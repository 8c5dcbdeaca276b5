//! Adopt: a shard's name is given to the history that its members have now, after a rebuild from a dump or a reset on purpose.

use backstop_model::error::{ErrorKind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ShardName;
use backstop_model::shard_identity::{AdoptReport, Adopted};
use backstop_model::topology::{InstanceState, current_primary};
use backstop_repo::Repository;

use crate::context::RunContext;
use crate::ports::Topology;

/// What an adoption is made of.
pub struct Adopt<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// Its members now.
    pub topology: &'a dyn Topology,
    /// Its backups and archive.
    pub repository: &'a Repository,
    /// Time, reporter, stop.
    pub ctx: &'a RunContext,
}

/// Gives the shard's name to the history of its primary: its backups are accepted from then on. What is stored stays as it is. Where the
/// archive has nothing in common with it, a new line begins.
///
/// # Errors
/// When no primary is found; [`ErrorKind::Held`] when a backup, or the archiver of an archive that needs a new line, holds the shard.
pub async fn adopt(adopt: &Adopt<'_>) -> Result<AdoptReport> {
    let members = adopt.ctx.unless_stopped(adopt.topology.members()).await?;
    let (endpoint, primary) = current_primary(&members)?;
    let servers = members.iter().filter_map(|member| Some(member.state.as_ref().ok()?.server_uuid)).collect();
    let adopted =
        Adopted { at: adopt.ctx.clock.now(), servers, gtid_executed: primary.gtid_executed.clone() };
    adopt.ctx.reporter.remark(&format!("giving the name {} to the history of {endpoint}", adopt.shard));
    let timeline = adopt.ctx.step("line", new_timeline(adopt, primary)).await?;
    let mut writer = adopt.ctx.step("claim", adopt.repository.acquire_lease(adopt.shard, "adopt")).await?;
    let newest = writer.reader().catalog().await?.last().map(|entry| entry.facts.backup_id.clone());
    adopt.ctx.step("adopt", writer.adopt(adopted.clone())).await?;
    adopt.ctx.step("release", writer.release()).await?;
    Ok(AdoptReport { shard: adopt.shard.clone(), adopted, newest_backup: newest, timeline })
}

/// A line of the archive for a history that has nothing in common with the current one.
async fn new_timeline(adopt: &Adopt<'_>, primary: &InstanceState) -> Result<Option<u32>> {
    let strange = |archive: &backstop_model::archive::Archive| -> Option<GtidSet> {
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
            error.hint(format!("stop the archiver of shard {}, and give the same command again", adopt.shard))
        }
        _ => error,
    })?;
    writer.seal_tail().await?;
    let held = strange(&writer.contents().await);
    let number = match held {
        Some(held) => {
            // What it purged no one can archive: the line has it from its beginning.
            let begun = writer.begin_timeline(
                primary.server_uuid,
                &primary.gtid_purged,
                &held,
                adopt.ctx.clock.now(),
            );
            Some(begun.await?)
        }
        None => None,
    };
    writer.release().await?;
    Ok(number)
}
