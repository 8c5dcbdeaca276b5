//! Status: what a shard could be recovered to now, and what would be lost.

use backstop_model::backup_availability::BackupAvailability;
use backstop_model::error::{Error, Result};
use backstop_model::ids::ShardName;
use backstop_model::plan::BackupRef;
use backstop_model::report::{BackupReport, Coverage, ShardStatus};
use backstop_model::run_history::failure_findings;
use backstop_model::schedule::Schedule;
use backstop_model::shard_status::{MemberRules, StatusInputs};
use backstop_model::topology::{Member, current_primary};
use backstop_repo::{ArchiveReader, Repository, ShardReader};

use crate::archive::{ShardArchive, archive_status};
use crate::backup_health::backup_health;
use crate::context::RunContext;
use crate::ports::{Topology, VolumeSnapshots};
use crate::{backup, damaged_backups, plan};

/// What the status of one shard is made of.
pub struct StatusQuery<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// When it should be backed up.
    pub schedule: Option<&'a Schedule>,
    /// Which of its members may be backed up.
    pub rules: MemberRules<'a>,
    /// Where its backups and the records of its runs are.
    pub repository: &'a Repository,
    /// Its backups.
    pub reader: &'a ShardReader,
    /// The EBS snapshots that they may be kept in.
    pub volumes: &'a dyn VolumeSnapshots,
    /// Its members, or why they cannot be asked: without them it is not known what would be lost.
    pub topology: Result<&'a dyn Topology, &'a Error>,
    /// Its archive.
    pub archived: ShardArchive<'a>,
    /// Time, reporter, stop.
    pub ctx: &'a RunContext,
}

/// How a shard stands. A shard whose members do not answer still has a status.
///
/// # Errors
/// When the repository cannot be read.
pub async fn status(query: &StatusQuery<'_>) -> Result<ShardStatus> {
    let now = query.ctx.clock.now();
    let catalog = query.ctx.unless_stopped(query.reader.catalog()).await?;
    let stands = query.ctx.unless_stopped(backup_health(query.reader, &catalog, query.volumes)).await?;
    let members = members(query).await?;
    let primary =
        members.as_ref().ok().and_then(|members| current_primary(members).ok()).map(|(_, state)| state);
    let archive =
        query.ctx.unless_stopped(archive_status(query.shard, &query.archived, primary, now)).await?;
    let last_backup = catalog.last().zip(stands.last());
    let last_backup =
        last_backup.map(|(entry, health)| BackupReport { ebs: health.ebs.clone(), ..backup::report(entry) });
    let backups: Vec<(BackupRef, BackupAvailability)> = catalog
        .iter()
        .zip(stands)
        .map(|(entry, health)| (plan::backup_ref(entry), health.availability))
        .collect();
    let looked = StatusInputs {
        shard: query.shard,
        now,
        schedule: query.schedule,
        backups: &backups,
        last_backup,
        members: members.as_deref().map_err(Clone::clone),
        rules: query.rules,
        coverage: query.ctx.unless_stopped(coverage(&query.archived.reader, &backups)).await?,
        archived: query.archived.settings.is_some(),
        archive_rpo_seconds: archive.rpo_seconds,
        archive: archive.findings,
    };
    let mut status = looked.status();
    let standing = damaged_backups::damage_findings(query.shard, query.reader, &query.archived.reader);
    status.findings.extend(query.ctx.unless_stopped(standing).await?);
    status.runs = query.ctx.unless_stopped(query.repository.runs(query.shard)).await?;
    status.findings.extend(failure_findings(query.shard, &status.runs));
    Ok(status)
}

/// What the members say, or why they could not be asked.
async fn members(query: &StatusQuery<'_>) -> Result<Result<Vec<Member>, String>> {
    let topology = match query.topology {
        Ok(topology) => topology,
        Err(error) => return Ok(Err(error.message.clone())),
    };
    query.ctx.unless_stopped(async { Ok(topology.members().await.map_err(|error| error.message)) }).await
}

/// What can be recovered from this archive and those of these backups that are whole, as far as that is known.
///
/// # Errors
/// The store's.
pub async fn coverage(
    archive: &ArchiveReader,
    backups: &[(BackupRef, BackupAvailability)],
) -> Result<Coverage> {
    let whole = backups
        .iter()
        .filter(|(_, standing)| !standing.is_lost() && *standing != BackupAvailability::Pending);
    let known: Vec<BackupRef> = whole.map(|(known, _)| known.clone()).collect();
    Ok(Coverage::of(&archive.checked().await?, &known))
}
