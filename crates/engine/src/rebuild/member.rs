//! Whether the new server has joined: asked of itself, and compared with the primary of this moment.

use std::time::Duration;

use backstop_model::ids::{Endpoint, ServerUuid};
use backstop_model::progress::{Progress, Unit};
use backstop_model::topology::{InstanceState, Unusable};

use super::{Decided, Fault, GtidSet, Kind, Made, Rebuild, Result, current_primary};

/// How often it is asked.
const POLL: Duration = Duration::from_millis(500);
/// A server that does not answer, or whose replication does not run, is given so long.
const CONNECT: Duration = Duration::from_secs(120);
/// Catching up fails when not one transaction was applied for so long.
const STALL: Duration = Duration::from_secs(600);
/// Caught up is who has everything the primary had so long ago.
const CURRENT: Duration = Duration::from_secs(5);

/// The primary at one moment.
struct Primary {
    endpoint: Endpoint,
    uuid: ServerUuid,
    executed: GtidSet,
    asked: Duration,
}

/// Waits until the server follows the primary, holds all of the backup, and has everything that the primary had a moment ago.
/// Gives what it holds.
pub(super) async fn joined(r: &Rebuild<'_>, decided: &Decided, made: &Made) -> Result<GtidSet> {
    let now = || r.world.clock.monotonic();
    let (mut well, mut moved, mut left) = (now(), now(), u64::MAX);
    let mut primary = primary(r).await?;
    loop {
        match state(r, made, &primary).await {
            Ok(state) => {
                well = now();
                held(decided, &state)?;
                let still = primary.executed.subtract(&state.gtid_executed).count();
                r.world.reporter.progress(Progress { done: still, total: None, unit: Unit::Transactions });
                if still == 0 && now() - primary.asked <= CURRENT {
                    return Ok(state.gtid_executed);
                }
                if still < left {
                    (left, moved) = (still, now());
                }
            }
            Err(fault) if now() - well > CONNECT => return Err(fault),
            Err(_) => {}
        }
        if now() - moved > STALL {
            let message =
                format!("catch up with the primary: {left} transactions left, none applied for {STALL:?}");
            return Err(
                Fault::failed(message).hint(format!("look at SHOW REPLICA STATUS of {}", made.server))
            );
        }
        if now() - primary.asked > CURRENT {
            primary = self::primary(r).await?;
            left = u64::MAX;
        }
        r.world.clock.sleep(POLL).await;
    }
}

async fn primary(r: &Rebuild<'_>) -> Result<Primary> {
    let asked = r.world.clock.monotonic();
    let members = r.topology.look().await?;
    let (endpoint, state) = current_primary(&members)?;
    let (endpoint, executed) = (endpoint.clone(), state.gtid_executed.clone());
    Ok(Primary { endpoint, uuid: state.server_uuid, executed, asked })
}

/// The server's state, if it replicates from the primary.
async fn state(r: &Rebuild<'_>, made: &Made, primary: &Primary) -> Result<InstanceState> {
    let server = &made.server;
    let state = r.doorbell.ask(server).await.state.map_err(|why| {
        let kind = if matches!(why, Unusable::Denied(_)) { Kind::Denied } else { Kind::Failed };
        Fault::new(kind, format!("look at the new server {server}: it {why}"))
    })?;
    let failed = |why: String| Fault::failed(format!("the new server {server} {why}"));
    let Some(replication) = &state.replication else {
        return Err(failed("replicates nothing".to_owned()));
    };
    if replication.source_uuid != Some(primary.uuid) && replication.source != primary.endpoint {
        return Err(failed(format!(
            "replicates {}, not the primary {}",
            replication.source, primary.endpoint
        )));
    }
    if !(replication.io_running && replication.sql_running) {
        let why = replication.last_error.as_deref().unwrap_or("a thread does not run");
        return Err(failed(format!("does not replicate: {why}"))
            .hint("the replication user and its grants are described in docs/grants.md"));
    }
    Ok(state)
}

/// What the manifest claims must be there.
fn held(decided: &Decided, state: &InstanceState) -> Result<()> {
    let missing = decided.gtid_executed.subtract(&state.gtid_executed);
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the new server does not hold what backup {} claims: `{missing}` is missing",
        decided.backup_id
    );
    Err(Fault::new(Kind::Damaged, message)
        .hint("recover from another backup (`--backup ID`) and report this one"))
}
