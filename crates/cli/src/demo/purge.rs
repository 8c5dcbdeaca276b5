//! The primary forgets its binary logs up to the backup, so that only a true restore can join.

use std::path::Path;
use std::time::Duration;

use backstop_adapters::mysql::server::Servers;
use backstop_engine::world::World;
use backstop_lab::shard::copy;
use backstop_lab::{Member, Shard};
use backstop_model::fault::{Fault, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::report::BackupReport;

use super::place::Place;
use super::steps::Steps;

/// How long a replica may take to be refused.
const REFUSAL: Duration = Duration::from_secs(60);
/// What a receiver says whose source has purged what it lacks.
const PURGED: u32 = 13114;

/// Begins a new binary log on the primary. Everything before it is in every later backup. Gives its name.
pub(super) async fn rotate(shard: &Shard) -> Result<String> {
    let primary = shard.primary()?;
    primary.run(&["FLUSH LOCAL BINARY LOGS"]).await?;
    let name = newest_log(primary).await?;
    shard.settle().await?;
    Ok(name)
}

/// Purges everything before that binary log, and makes sure that an empty server cannot become a replica any more.
pub(super) async fn purge(
    shard: &Shard,
    servers: &Servers,
    template: &Path,
    place: &Place,
    to: &str,
    backup: &BackupReport,
    steps: &mut Steps<'_>,
) -> Result<()> {
    steps.begin("purge binary logs");
    let primary = shard.primary()?;
    primary.run(&[format!("PURGE BINARY LOGS TO '{to}'")]).await?;
    let purged = primary.value("SELECT @@GLOBAL.gtid_purged").await?;
    let purged: GtidSet =
        purged.parse().map_err(|error| Fault::failed(format!("read gtid_purged: {error}")))?;
    if purged.is_empty() || !purged.is_subset_of(&backup.gtid_executed) {
        let message = format!(
            "purge up to the backup: `{purged}` is purged, the backup holds `{}`",
            backup.gtid_executed
        );
        return Err(Fault::failed(message));
    }
    let said = blank_replica(shard, servers, template, place, steps.world).await?;
    steps.end(format!(
        "{} transactions purged on the primary; an empty replica is refused: {said}",
        purged.count()
    ));
    Ok(())
}

/// Lets an empty server try to follow the primary. Gives what it was told; that it succeeds is a fault.
async fn blank_replica(
    shard: &Shard,
    servers: &Servers,
    template: &Path,
    place: &Place,
    world: &World,
) -> Result<String> {
    let dir = place.path("blank");
    copy(template, &dir.join("data")).await?;
    let blank = Member::start_on(servers, &dir, 199, &[]).await?;
    shard.follow(&blank, shard.primary()?).await?;
    let begun = world.clock.monotonic();
    loop {
        let sql = "SELECT CONCAT(LAST_ERROR_NUMBER, ' ', LAST_ERROR_MESSAGE) \
                   FROM performance_schema.replication_connection_status";
        let state = blank.value(sql).await?;
        if state.starts_with(&PURGED.to_string()) {
            return Ok(format!("error {PURGED}, the source has purged required binary logs"));
        }
        if !blank.gtid_executed().await?.is_empty() || world.clock.monotonic() - begun > REFUSAL {
            return Err(Fault::failed(format!("an empty server was not refused by the primary: {state}")));
        }
        world.clock.sleep(Duration::from_millis(50)).await;
    }
}

async fn newest_log(primary: &Member) -> Result<String> {
    let sql =
        "SELECT JSON_UNQUOTE(JSON_EXTRACT(LOCAL, '$.binary_log_file')) FROM performance_schema.log_status";
    primary.value(sql).await
}
