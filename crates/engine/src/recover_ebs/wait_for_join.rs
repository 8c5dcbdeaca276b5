//! Waits for the new server to join: polls the server itself, and compares it with the current
//! primary.

use std::time::Duration;

use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::progress::{Progress, ProgressUnit};
use backstop_types::topology::{InstanceState, NoAnswer};

use super::{
    CreatedInstance, EbsRecovery, EbsRecoveryDecision, Error, ErrorKind, GtidSet, Result, current_primary,
};
use crate::recover::catch_up_stall::CatchUpStall;

/// Interval at which the server is polled.
const JOIN_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Time for a server to answer, and for its replication to run.
const SERVER_CONNECT_TIMEOUT: Duration = Duration::from_secs(120);
/// A replica has caught up when it has all that the primary had this long ago.
const CAUGHT_UP_LAG: Duration = Duration::from_secs(5);

/// The primary at one moment.
struct Primary {
    endpoint: Endpoint,
    uuid: ServerUuid,
    executed: GtidSet,
    asked: Duration,
}

/// Waits until the server replicates from the primary, holds all of the backup, and has everything
/// that the primary had a moment ago. Returns its GTID set.
pub(super) async fn wait_until_joined(
    recovery: &EbsRecovery<'_>,
    decided: &EbsRecoveryDecision,
    made: &CreatedInstance,
) -> Result<GtidSet> {
    let now = || recovery.ctx.host.clock.monotonic();
    let (mut well, mut stall) = (now(), CatchUpStall::begin(recovery.ctx));
    let mut primary = primary(recovery).await?;
    loop {
        match state(recovery, made, &primary).await {
            Ok(state) => {
                well = now();
                check_holds_backup(decided, &state)?;
                let still = primary.executed.subtract(&state.gtid_executed).count();
                recovery.ctx.reporter.progress(Progress {
                    done: still,
                    total: None,
                    unit: ProgressUnit::Transactions,
                });
                if still == 0 && now() - primary.asked <= CAUGHT_UP_LAG {
                    return Ok(state.gtid_executed);
                }
                stall.observe(still);
            }
            Err(error) if now() - well > SERVER_CONNECT_TIMEOUT => return Err(error),
            Err(_) => {}
        }
        stall.check(&made.server.to_string())?;
        if now() - primary.asked > CAUGHT_UP_LAG {
            primary = self::primary(recovery).await?;
            stall.expect_more();
        }
        recovery.ctx.host.clock.sleep(JOIN_POLL_INTERVAL).await;
    }
}

async fn primary(recovery: &EbsRecovery<'_>) -> Result<Primary> {
    let asked = recovery.ctx.host.clock.monotonic();
    let members = recovery.topology.members().await?;
    let (endpoint, state) = current_primary(&members)?;
    let (endpoint, executed) = (endpoint.clone(), state.gtid_executed.clone());
    Ok(Primary { endpoint, uuid: state.server_uuid, executed, asked })
}

/// Returns the server's state, if it replicates from the primary.
async fn state(
    recovery: &EbsRecovery<'_>,
    made: &CreatedInstance,
    primary: &Primary,
) -> Result<InstanceState> {
    let server = &made.server;
    let state = recovery.topology.probe(server).await.state.map_err(|why| {
        let kind = if matches!(why, NoAnswer::Denied(_)) { ErrorKind::Denied } else { ErrorKind::Failed };
        Error::new(kind, format!("cannot check the new server {server}: it {why}"))
    })?;
    let failed = |why: String| Error::failed(format!("the new server {server} {why}"));
    let Some(replication) = &state.replication else {
        return Err(failed("does not replicate".to_owned()));
    };
    if replication.source_uuid != Some(primary.uuid) && replication.source != primary.endpoint {
        return Err(failed(format!(
            "replicates {}, not the primary {}",
            replication.source, primary.endpoint
        )));
    }
    if !(replication.io_running && replication.sql_running) {
        let why = replication.last_error.as_deref().unwrap_or("a thread is not running");
        return Err(failed(format!("does not replicate: {why}"))
            .hint("check the replication account and its grants (docs/grants.md)"));
    }
    Ok(state)
}

/// Checks that the server holds the manifest's GTID set.
fn check_holds_backup(decided: &EbsRecoveryDecision, state: &InstanceState) -> Result<()> {
    let missing = decided.gtid_executed.subtract(&state.gtid_executed);
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("the new server lacks transactions of backup {}: `{missing}`", decided.backup_id);
    Err(Error::new(ErrorKind::Damaged, message)
        .hint("recover from another backup (`--backup ID`) and report this one"))
}
