//! What came of a run, as the log says it. Only a backup whose snapshots are complete is a success: one that is pending is looked at
//! by the next run.

use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::standing::stands;
use backstop_engine::world::World;
use backstop_model::fault::Result;
use backstop_model::ids::BackupId;
use backstop_model::report::{BackupReport, VolumeState};
use backstop_model::standing::Standing;
use backstop_repo::Reader;

/// Notes down how this backup stands, and if it is not complete, how the one before it does. The alarm on missing success counts
/// the lines `backup_succeeded` (deploy/terraform/modules/shard-backup/alarms.tf).
pub async fn note_down(
    report: &BackupReport,
    reader: &Reader,
    volumes: &dyn VolumeSnapshots,
    (occasion, request): (&str, &str),
    world: &World,
) {
    let shard = report.shard.to_string();
    if report.ebs.as_ref().is_some_and(|ebs| ebs.state == Some(VolumeState::Completed)) {
        let backup_id = report.backup_id.to_string();
        tracing::info!(event = "backup_succeeded", backup_id, shard, occasion, request);
        return;
    }
    let newest = match world.unless_stopped(newest(&report.backup_id, reader, volumes)).await {
        Ok(newest) => newest,
        Err(fault) => vec![(report.backup_id.clone(), Standing::Unasked(fault.to_string()))],
    };
    for (id, standing) in newest {
        let backup_id = id.to_string();
        match standing {
            Standing::Sound => {
                tracing::info!(event = "backup_succeeded", backup_id, shard, occasion, request)
            }
            Standing::Pending => {
                tracing::info!(event = "backup_pending", backup_id, shard, occasion, request)
            }
            Standing::Lost(why) => {
                tracing::error!(event = "backup_lost", backup_id, shard, occasion, request, why)
            }
            Standing::Unasked(why) => {
                tracing::warn!(event = "backup_not_asked", backup_id, shard, occasion, request, why);
            }
        }
    }
}

/// This backup and the one before it.
async fn newest(
    id: &BackupId,
    reader: &Reader,
    volumes: &dyn VolumeSnapshots,
) -> Result<Vec<(BackupId, Standing)>> {
    let mut catalog = reader.catalog().await?;
    let own = catalog.iter().position(|entry| entry.facts.backup_id == *id).unwrap_or_default();
    catalog.truncate(own + 1);
    let two = catalog.split_off(own.saturating_sub(1));
    let stands = stands(reader, &two, volumes).await?;
    let ids = two.into_iter().map(|entry| entry.facts.backup_id);
    Ok(ids.zip(stands).map(|(id, stand)| (id, stand.standing)).collect())
}
