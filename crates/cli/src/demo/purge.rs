//! Purges the primary's binary logs up to the backup, so that only a true restore can join.

use std::path::Path;
use std::time::Duration;

use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_engine::context::RunContext;
use backstop_engine::report::BackupReport;
use backstop_testbed::shard::copy;
use backstop_testbed::{LocalServer, Shard};
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;

use super::steps::DemoSteps;
use super::workdir::DemoDir;

/// Limit for the source to refuse a replica.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Error of a receiver whose source has purged binary logs that it lacks.
const ER_SOURCE_HAS_PURGED_REQUIRED_GTIDS: u32 = 13114;

/// Begins a new binary log on the primary and returns its name. Everything before it is in every
/// later backup.
pub(super) async fn rotate(shard: &Shard) -> Result<String> {
    let primary = shard.primary()?;
    primary.run(&["FLUSH LOCAL BINARY LOGS"]).await?;
    let name = newest_log(primary).await?;
    shard.settle().await?;
    Ok(name)
}

/// Purges everything before that binary log, and checks that an empty server cannot become a
/// replica any more.
pub(super) async fn purge(
    shard: &Shard,
    servers: &LocalMysqld,
    template: &Path,
    place: &DemoDir,
    to: &str,
    backup: &BackupReport,
    steps: &mut DemoSteps<'_>,
) -> Result<()> {
    steps.begin("purge binary logs");
    let primary = shard.primary()?;
    primary.run(&[format!("PURGE BINARY LOGS TO '{to}'")]).await?;
    let purged = primary.value("SELECT @@GLOBAL.gtid_purged").await?;
    let purged: GtidSet =
        purged.parse().map_err(|error| Error::failed(format!("cannot read gtid_purged: {error}")))?;
    if purged.is_empty() || !purged.is_subset_of(&backup.gtid_executed) {
        let message = format!(
            "cannot purge up to the backup: `{purged}` is purged, the backup holds `{}`",
            backup.gtid_executed
        );
        return Err(Error::failed(message));
    }
    let said = blank_replica(shard, servers, template, place, steps.ctx).await?;
    steps.end(format!(
        "{} transactions purged on the primary; an empty replica is refused: {said}",
        purged.count()
    ));
    Ok(())
}

/// Makes an empty server try to follow the primary. Returns the receiver's error; a success is a
/// fault.
async fn blank_replica(
    shard: &Shard,
    servers: &LocalMysqld,
    template: &Path,
    place: &DemoDir,
    ctx: &RunContext,
) -> Result<String> {
    let dir = place.path("blank");
    copy(template, &dir.join("data")).await?;
    let blank = LocalServer::start_on(servers, &dir, 199, &[]).await?;
    shard.follow(&blank, shard.primary()?).await?;
    let begun = ctx.host.clock.monotonic();
    loop {
        let sql = "SELECT CONCAT(LAST_ERROR_NUMBER, ' ', LAST_ERROR_MESSAGE) \
                   FROM performance_schema.replication_connection_status";
        let state = blank.value(sql).await?;
        if state.starts_with(&ER_SOURCE_HAS_PURGED_REQUIRED_GTIDS.to_string()) {
            return Ok(format!(
                "error {ER_SOURCE_HAS_PURGED_REQUIRED_GTIDS}, the source has purged required binary logs"
            ));
        }
        if !blank.gtid_executed().await?.is_empty() || ctx.host.clock.monotonic() - begun > REFUSAL_TIMEOUT {
            return Err(Error::failed(format!("the primary did not refuse an empty server: {state}")));
        }
        ctx.host.clock.sleep(Duration::from_millis(50)).await;
    }
}

async fn newest_log(primary: &LocalServer) -> Result<String> {
    let sql =
        "SELECT JSON_UNQUOTE(JSON_EXTRACT(LOCAL, '$.binary_log_file')) FROM performance_schema.log_status";
    primary.value(sql).await
}
