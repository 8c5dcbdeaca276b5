//! Adopt: a shard's name is given to the history that its members have now, after a rebuild from a dump or a reset on purpose.

use backstop_model::fault::{Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::identity::{AdoptReport, Adopted};
use backstop_model::ids::ShardName;
use backstop_model::topology::{InstanceState, current_primary};
use backstop_repo::Repository;

use crate::ports::Topology;
use crate::world::World;

/// What an adoption is made of.
pub struct Adopt<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// Its members now.
    pub topology: &'a dyn Topology,
    /// Its backups and archive.
    pub repository: &'a Repository,
    /// Time, reporter, stop.
    pub world: &'a World,
}

/// Gives the shard's name to the history of its primary: its backups are accepted from then on. What is stored stays as it is. Where the
/// archive has nothing in common with it, a new line begins.
///
/// # Errors
/// When no primary is found; [`Kind::Held`] when a backup, or the archiver of an archive that needs a new line, holds the shard.
pub async fn adopt(a: &Adopt<'_>) -> Result<AdoptReport> {
    let members = a.world.unless_stopped(a.topology.look()).await?;
    let (endpoint, primary) = current_primary(&members)?;
    let servers = members.iter().filter_map(|member| Some(member.state.as_ref().ok()?.server_uuid)).collect();
    let adopted = Adopted { at: a.world.clock.now(), servers, gtid_executed: primary.gtid_executed.clone() };
    a.world.reporter.remark(&format!("giving the name {} to the history of {endpoint}", a.shard));
    let line = a.world.step("line", new_line(a, primary)).await?;
    let mut writer = a.world.step("claim", a.repository.claim(a.shard, "adopt")).await?;
    let newest = writer.reader().catalog().await?.last().map(|entry| entry.facts.backup_id.clone());
    a.world.step("adopt", writer.adopt(adopted.clone())).await?;
    a.world.step("release", writer.release()).await?;
    Ok(AdoptReport { shard: a.shard.clone(), adopted, newest_backup: newest, line })
}

/// A line of the archive for a history that has nothing in common with the current one.
async fn new_line(a: &Adopt<'_>, primary: &InstanceState) -> Result<Option<u32>> {
    let strange = |archive: &backstop_model::archive::Archive| -> Option<GtidSet> {
        let held = archive.held(archive.current()?.number)?;
        let strange = !held.is_empty() && held.intersect(&primary.gtid_executed).is_empty();
        strange.then_some(held)
    };
    if strange(&a.repository.archive(a.shard).contents().await?).is_none() {
        return Ok(None);
    }
    let claim = a.repository.claim_archive(a.shard).await;
    let writer = claim.map_err(|fault| match fault.kind {
        Kind::Held => {
            fault.hint(format!("stop the archiver of shard {}, and give the same command again", a.shard))
        }
        _ => fault,
    })?;
    writer.seal_tail().await?;
    let held = strange(&writer.contents().await);
    let number = match held {
        Some(held) => {
            // What it purged no one can archive: the line has it from its beginning.
            let begun =
                writer.begin_line(primary.server_uuid, &primary.gtid_purged, &held, a.world.clock.now());
            Some(begun.await?)
        }
        None => None,
    };
    writer.release().await?;
    Ok(number)
}
