//! Status: the moments that a shard could be recovered to now, and the transactions that would be
//! lost.

use backstop_config::schedule::Schedule;
use backstop_policy::backup_availability::BackupAvailability;
use backstop_policy::coverage::Coverage;
use backstop_policy::topology::current_primary;
use backstop_repo::{ArchiveReader, Repository, ShardReader};
use backstop_types::backup::BackupRef;
use backstop_types::error::{Error, Result};
use backstop_types::ids::ShardName;
use backstop_types::run_history::failure_findings;
use backstop_types::topology::Member;

use crate::archive::{ShardArchive, archive_status};
use crate::backup_health::backup_health;
use crate::backup_health::backup_ref;
use crate::context::RunContext;
use crate::ports::{Topology, VolumeSnapshots};
use crate::report::{BackupReport, ShardStatus};
use crate::shard_status::StatusInputs;
use crate::source_selection::SourceChoiceRules;
use crate::{backup, damaged_backups};

/// Inputs of the status of one shard.
pub struct StatusQuery<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Schedule of its backups.
    pub schedule: Option<&'a Schedule>,
    /// Rules for the members that may be backed up.
    pub rules: SourceChoiceRules<'a>,
    /// Repository of its backups and run records.
    pub repository: &'a Repository,
    /// Its backups.
    pub reader: &'a ShardReader,
    /// EBS snapshots that may hold its backups.
    pub volumes: &'a dyn VolumeSnapshots,
    /// Its members, or the reason why they cannot be queried: without them the possible loss is
    /// unknown.
    pub topology: Result<&'a dyn Topology, &'a Error>,
    /// Its archive.
    pub archived: ShardArchive<'a>,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
}

/// Returns the status of a shard, even if its members do not answer.
///
/// # Errors
/// Fails if the repository cannot be read.
pub async fn status(query: &StatusQuery<'_>) -> Result<ShardStatus> {
    let now = query.ctx.host.clock.now();
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
    let backups: Vec<(BackupRef, BackupAvailability)> =
        catalog.iter().zip(stands).map(|(entry, health)| (backup_ref(entry), health.availability)).collect();
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
    if members.is_ok() {
        status.findings.extend(query.topology.iter().flat_map(|topology| topology.findings()));
    }
    let standing = damaged_backups::damage_findings(query.shard, query.reader, &query.archived.reader);
    status.findings.extend(query.ctx.unless_stopped(standing).await?);
    status.runs = query.ctx.unless_stopped(query.repository.runs(query.shard)).await?;
    status.findings.extend(failure_findings(query.shard, &status.runs));
    Ok(status)
}

/// Returns the state of the members, or the reason why they could not be queried.
async fn members(query: &StatusQuery<'_>) -> Result<Result<Vec<Member>, String>> {
    let topology = match query.topology {
        Ok(topology) => topology,
        Err(error) => return Ok(Err(error.message.clone())),
    };
    query.ctx.unless_stopped(async { Ok(topology.members().await.map_err(|error| error.message)) }).await
}

/// Returns the moments that can be recovered from this archive and those of these backups that are
/// known to be whole.
///
/// # Errors
/// Returns the store's errors.
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
