//! Logs the outcome of a run. Only a backup whose snapshots are complete is a success: the next run
//! checks one that is pending.

use backstop_engine::backup_health::backup_health;
use backstop_engine::context::RunContext;
use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::report::BackupReport;
use backstop_policy::backup_availability::BackupAvailability;
use backstop_repo::ShardReader;
use backstop_types::backup::VolumeState;
use backstop_types::error::Result;
use backstop_types::ids::BackupId;

/// Logs the state of this backup and, if it is not complete, of the one before it. The alarm on
/// missing success counts the lines `backup_succeeded`
/// (deploy/terraform/modules/shard-backup/alarms.tf).
pub async fn log_outcome(
    report: &BackupReport,
    reader: &ShardReader,
    volumes: &dyn VolumeSnapshots,
    (occasion, request): (&str, &str),
    ctx: &RunContext,
) {
    let shard = report.shard.to_string();
    if report.ebs.as_ref().is_some_and(|ebs| ebs.state == Some(VolumeState::Completed)) {
        let backup_id = report.backup_id.to_string();
        tracing::info!(event = "backup_succeeded", backup_id, shard, occasion, request);
        return;
    }
    let newest = match ctx.unless_stopped(newest(&report.backup_id, reader, volumes)).await {
        Ok(newest) => newest,
        Err(error) => vec![(report.backup_id.clone(), BackupAvailability::Unknown(error.to_string()))],
    };
    for (id, standing) in newest {
        let backup_id = id.to_string();
        match standing {
            BackupAvailability::Available => {
                tracing::info!(event = "backup_succeeded", backup_id, shard, occasion, request)
            }
            BackupAvailability::Pending => {
                tracing::info!(event = "backup_pending", backup_id, shard, occasion, request)
            }
            BackupAvailability::Lost(why) => {
                tracing::error!(event = "backup_lost", backup_id, shard, occasion, request, why)
            }
            BackupAvailability::Unknown(why) => {
                tracing::warn!(event = "backup_not_asked", backup_id, shard, occasion, request, why);
            }
        }
    }
}

/// Returns this backup and the one before it.
async fn newest(
    id: &BackupId,
    reader: &ShardReader,
    volumes: &dyn VolumeSnapshots,
) -> Result<Vec<(BackupId, BackupAvailability)>> {
    let mut catalog = reader.catalog().await?;
    let own = catalog.iter().position(|entry| entry.facts.backup_id == *id).unwrap_or_default();
    catalog.truncate(own + 1);
    let two = catalog.split_off(own.saturating_sub(1));
    let stands = backup_health(reader, &two, volumes).await?;
    let ids = two.into_iter().map(|entry| entry.facts.backup_id);
    Ok(ids.zip(stands).map(|(id, health)| (id, health.availability)).collect())
}
