//! Availability of backups. The state of data outside of the repository (EBS snapshots) is
//! requested by everything that reports a backup as recoverable; a state that cannot be requested
//! is reported as unknown.

use std::collections::BTreeMap;

use backstop_policy::backup_availability::BackupAvailability;
use backstop_repo::{CatalogEntry, ShardReader, Storage};
use backstop_types::backup::BackupRef;
use backstop_types::backup::VolumeState;
use backstop_types::completion::Completion;
use backstop_types::error::{ErrorKind, Result};
use chrono::SecondsFormat;
use futures::{StreamExt, TryStreamExt};

use crate::completion;
use crate::ports::VolumeSnapshots;
use crate::report::EbsSnapshots;

/// Number of manifests that are read concurrently.
const PARALLEL_MANIFEST_READS: usize = 8;

/// Availability of one backup.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupHealth {
    /// Known availability.
    pub availability: BackupAvailability,
    /// EBS snapshots that hold its data, with their state if EC2 returned it; `None`: it is in the
    /// repository.
    pub ebs: Option<EbsSnapshots>,
}

impl BackupHealth {
    fn sound() -> Self {
        Self { availability: BackupAvailability::Available, ebs: None }
    }
}

/// Returns these backups as a plan needs them, each with its availability, in their order.
///
/// # Errors
/// As [`backup_health`].
pub async fn backups_with_health(
    reader: &ShardReader,
    entries: &[CatalogEntry],
    volumes: &dyn VolumeSnapshots,
) -> Result<Vec<(BackupRef, BackupAvailability)>> {
    let backups = backup_health(reader, entries, volumes).await?;
    Ok(entries.iter().map(backup_ref).zip(backups.into_iter().map(|health| health.availability)).collect())
}

/// Returns the availability of these backups, in their order.
///
/// # Errors
/// Returns the repository's errors. An EC2 that does not answer is no error:
/// [`BackupAvailability::Unknown`].
pub async fn backup_health(
    reader: &ShardReader,
    entries: &[CatalogEntry],
    volumes: &dyn VolumeSnapshots,
) -> Result<Vec<BackupHealth>> {
    let looks = entries.iter().map(|entry| storage_health(reader, entry));
    let mut backups: Vec<BackupHealth> =
        futures::stream::iter(looks).buffered(PARALLEL_MANIFEST_READS).try_collect().await?;
    for (region, at) in by_region(&backups) {
        let sets: Vec<Vec<String>> = at.iter().map(|index| snapshot_ids(&backups[*index])).collect();
        match volumes.states(&sets, &region).await {
            Ok(states) => {
                for ((index, state), ids) in at.iter().zip(states).zip(&sets) {
                    let health = &mut backups[*index];
                    health.availability = BackupAvailability::of(state, ids);
                    health.ebs.iter_mut().for_each(|ebs| ebs.state = Some(state));
                }
            }
            Err(error) => {
                for index in at {
                    let recorded = reader.completion(&entries[index].facts.backup_id).await?;
                    backups[index].availability = by_record(recorded.as_ref(), &error.message);
                }
            }
        }
    }
    // Damage found by a verification is valid until a later one finds the backup whole.
    let damaged = reader.found().await?.backups();
    for (entry, health) in entries.iter().zip(&mut backups) {
        if let Some(why) = damaged.get(&entry.facts.backup_id) {
            health.availability = BackupAvailability::Lost(why.clone());
        }
    }
    Ok(backups)
}

/// Returns the availability of a backup whose snapshots cannot be queried. A recorded failure is
/// final; a recorded completion says nothing about now.
fn by_record(recorded: Option<&Completion>, why: &str) -> BackupAvailability {
    let Some(recorded) = recorded else { return BackupAvailability::Unknown(why.to_owned()) };
    match completion::failure(recorded) {
        Some(failure) => BackupAvailability::Lost(failure),
        None => {
            let at = recorded.at.to_rfc3339_opts(SecondsFormat::Secs, true);
            BackupAvailability::Unknown(format!("{why} (by its record they were complete at {at})"))
        }
    }
}

/// Finds the location of a backup's data. One in EBS cannot be found without its manifest.
async fn storage_health(reader: &ShardReader, entry: &CatalogEntry) -> Result<BackupHealth> {
    if !entry.facts.lineage.is_ebs() {
        return Ok(BackupHealth::sound());
    }
    match reader.storage_of(entry).await {
        Ok(storage) => Ok(BackupHealth { ebs: ebs(storage, None), ..BackupHealth::sound() }),
        Err(error) if matches!(error.kind, ErrorKind::Damaged | ErrorKind::NotRecoverable) => {
            Ok(BackupHealth { availability: BackupAvailability::Lost(error.message), ebs: None })
        }
        Err(error) => Err(error),
    }
}

/// Groups the backups whose state must be requested by region.
fn by_region(backups: &[BackupHealth]) -> BTreeMap<String, Vec<usize>> {
    let mut regions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, health) in backups.iter().enumerate() {
        if let Some(ebs) = &health.ebs {
            regions.entry(ebs.region.clone()).or_default().push(index);
        }
    }
    regions
}

fn snapshot_ids(health: &BackupHealth) -> Vec<String> {
    health.ebs.as_ref().map(|ebs| ebs.snapshot_ids.clone()).unwrap_or_default()
}

/// Returns a backup as a decision needs it.
pub fn backup_ref(entry: &CatalogEntry) -> BackupRef {
    BackupRef {
        backup_id: entry.facts.backup_id.clone(),
        taken_at: entry.facts.taken_at,
        gtid_executed: entry.facts.gtid_executed.clone(),
        on_timeline: entry.facts.on_timeline,
    }
}

/// Returns the EBS snapshots that hold a backup's data, if it is in EBS.
pub fn ebs(storage: Storage, state: impl Into<Option<VolumeState>>) -> Option<EbsSnapshots> {
    match storage {
        Storage::Ebs { snapshot_ids, region, .. } => {
            Some(EbsSnapshots { region, snapshot_ids, state: state.into() })
        }
        Storage::Blocks { .. } => None,
    }
}
