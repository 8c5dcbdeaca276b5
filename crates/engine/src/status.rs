//! Status: what a shard could be recovered to now, and what would be lost.

use backstop_model::attention::{Looked, Rules};
use backstop_model::fault::{Fault, Result};
use backstop_model::ids::ShardName;
use backstop_model::plan::Known;
use backstop_model::report::{BackupReport, Coverage, ShardStatus};
use backstop_model::runs::failing;
use backstop_model::schedule::Schedule;
use backstop_model::standing::Standing;
use backstop_model::topology::{Member, current_primary};
use backstop_repo::{ArchiveReader, Reader, Repository};

use crate::archive::{Archived, archive_health};
use crate::ports::{Topology, VolumeSnapshots};
use crate::standing::stands;
use crate::world::World;
use crate::{backup, plan, sound};

/// What the status of one shard is made of.
pub struct Status<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// When it should be backed up.
    pub schedule: Option<&'a Schedule>,
    /// Which of its members may be backed up.
    pub rules: Rules<'a>,
    /// Where its backups and the records of its runs are.
    pub repository: &'a Repository,
    /// Its backups.
    pub reader: &'a Reader,
    /// The EBS snapshots that they may be kept in.
    pub volumes: &'a dyn VolumeSnapshots,
    /// Its members, or why they cannot be asked: without them it is not known what would be lost.
    pub topology: Result<&'a dyn Topology, &'a Fault>,
    /// Its archive.
    pub archived: Archived<'a>,
    /// Time, reporter, stop.
    pub world: &'a World,
}

/// How a shard stands. A shard whose members do not answer still has a status.
///
/// # Errors
/// When the repository cannot be read.
pub async fn status(s: &Status<'_>) -> Result<ShardStatus> {
    let now = s.world.clock.now();
    let catalog = s.world.unless_stopped(s.reader.catalog()).await?;
    let stands = s.world.unless_stopped(stands(s.reader, &catalog, s.volumes)).await?;
    let members = members(s).await?;
    let primary =
        members.as_ref().ok().and_then(|members| current_primary(members).ok()).map(|(_, state)| state);
    let archive = s.world.unless_stopped(archive_health(s.shard, &s.archived, primary, now)).await?;
    let last_backup = catalog.last().zip(stands.last());
    let last_backup =
        last_backup.map(|(entry, stand)| BackupReport { ebs: stand.ebs.clone(), ..backup::report(entry) });
    let backups: Vec<(Known, Standing)> =
        catalog.iter().zip(stands).map(|(entry, stand)| (plan::known(entry), stand.standing)).collect();
    let looked = Looked {
        shard: s.shard,
        now,
        schedule: s.schedule,
        backups: &backups,
        last_backup,
        members: members.as_deref().map_err(Clone::clone),
        rules: s.rules,
        coverage: s.world.unless_stopped(coverage(&s.archived.reader, &backups)).await?,
        archived: s.archived.settings.is_some(),
        archive_rpo_seconds: archive.rpo_seconds,
        archive: archive.findings,
    };
    let mut status = looked.status();
    let standing = sound::standing(s.shard, s.reader, &s.archived.reader);
    status.findings.extend(s.world.unless_stopped(standing).await?);
    status.runs = s.world.unless_stopped(s.repository.runs(s.shard)).await?;
    status.findings.extend(failing(s.shard, &status.runs));
    Ok(status)
}

/// What the members say, or why they could not be asked.
async fn members(s: &Status<'_>) -> Result<Result<Vec<Member>, String>> {
    let topology = match s.topology {
        Ok(topology) => topology,
        Err(fault) => return Ok(Err(fault.message.clone())),
    };
    s.world.unless_stopped(async { Ok(topology.look().await.map_err(|fault| fault.message)) }).await
}

/// What can be recovered from this archive and those of these backups that are whole, as far as that is known.
///
/// # Errors
/// The store's.
pub async fn coverage(archive: &ArchiveReader, backups: &[(Known, Standing)]) -> Result<Coverage> {
    let whole = backups.iter().filter(|(_, standing)| !standing.is_lost() && *standing != Standing::Pending);
    let known: Vec<Known> = whole.map(|(known, _)| known.clone()).collect();
    Ok(Coverage::of(&archive.checked().await?, &known))
}
