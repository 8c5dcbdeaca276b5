//! Replaying the archive on a restored backup.
//!
//! The recovered server replicates from a binlog server of this process, which gives it exactly the plan's transactions. It holds by
//! GTID what it has executed, so a replay that was cut off goes on where it was. Durability is relaxed meanwhile: a crash of the
//! machine, not one of a process, can then tear the data, which the boot id betrays.

use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::{BinlogServer, Limited, PasswordCheck};
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use backstop_model::plan::Replay;
use backstop_model::progress::{Progress, Unit};
use backstop_repo::{LineSource, Manifest};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::Recover;
use crate::journal::Steps;
use crate::ports::{ReadOnly, RecoveredSession, ReplayFrom};

const USER: &str = "backstop_replay";
/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(200);
/// A replay fails when not one transaction was applied for so long: a single one of many GiB takes its time.
const STALL: Duration = Duration::from_secs(3600);
/// The archive's store may be away for so long.
const AWAY: Duration = Duration::from_secs(600);
/// A receiver that cannot connect is given so long.
const CONNECT: Duration = Duration::from_secs(60);
/// How long the server may take for any packet but its next command.
const CLIENT: Duration = Duration::from_secs(3600);

/// What is to be put back after the replay, and which boot of the machine it began in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Relaxed {
    boot: String,
    settings: Vec<(String, String)>,
}

/// Applies what the plan says, exactly. Nothing is done if there is nothing to apply.
pub(super) async fn replay(
    r: &Recover<'_>,
    steps: &mut Steps<'_>,
    session: &mut dyn RecoveredSession,
    manifest: &Manifest,
    plan: &Replay,
) -> Result<()> {
    if plan.gtids.is_empty() || steps.is_done("verify_replay") {
        return Ok(());
    }
    let relaxed = steps.once("relax", relax(session)).await?;
    same_boot(&relaxed, steps)?;
    if !steps.is_done("replay") {
        // A server that was started anew has its own settings again; one that was not may still be replicating.
        super::forget(session).await?;
        session.relax().await?;
        steps.again("replay", apply(r, session, manifest, plan)).await?;
    }
    steps.again("restore_settings", session.restore_settings(&relaxed.settings)).await?;
    steps.once("verify_replay", verify(session, plan)).await
}

async fn relax(session: &mut dyn RecoveredSession) -> Result<Relaxed> {
    super::forget(session).await?;
    Ok(Relaxed { boot: boot()?, settings: session.relax().await? })
}

/// What was executed with relaxed durability outlives the server, but not the machine.
fn same_boot(relaxed: &Relaxed, steps: &Steps<'_>) -> Result<()> {
    if steps.is_done("restore_settings") || relaxed.boot == boot()? {
        return Ok(());
    }
    let message =
        "go on with the replay: the machine was started anew meanwhile, and what was replayed may be torn";
    Err(Fault::refused(message).hint("remove the target directory and recover anew"))
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(path).map(|id| id.trim().to_owned()).failed(format!("read {path}"))
}

async fn apply(
    r: &Recover<'_>,
    session: &mut dyn RecoveredSession,
    manifest: &Manifest,
    plan: &Replay,
) -> Result<()> {
    let source = Arc::new(Limited::new(r.archive.line(plan.line), plan.reached()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.failed("listen on loopback for the replay")?;
    let port = listener.local_addr().failed("listen on loopback for the replay")?.port();
    let random = || r.world.clock.random();
    let password = format!("{:016x}{:016x}", random(), random()).into();
    let clock = Arc::clone(&r.world.clock);
    let server = BinlogServer {
        source: source.clone(),
        user: USER.to_owned(),
        password: PasswordCheck::new(&password),
        server_id: (random() >> 32) as u32 | 1,
        server_uuid: server_uuid(r),
        version: manifest.facts.server_version.to_string(),
        now: Arc::new(move || clock.now().timestamp()),
        deadline: CLIENT,
    };
    let from = ReplayFrom { port, user: USER.to_owned(), password };
    tokio::select! {
        served = server.serve(listener) => served,
        applied = follow(r, session, plan, &from, &source) => applied,
    }
}

fn server_uuid(r: &Recover<'_>) -> ServerUuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&r.world.clock.random().to_le_bytes());
    bytes[8..].copy_from_slice(&r.world.clock.random().to_le_bytes());
    ServerUuid(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// Replicates until everything is applied.
async fn follow(
    r: &Recover<'_>,
    session: &mut dyn RecoveredSession,
    plan: &Replay,
    from: &ReplayFrom,
    source: &Limited<LineSource>,
) -> Result<()> {
    let now = || r.world.clock.monotonic();
    let (total, reached) = (plan.gtids.count(), plan.reached());
    begin(session, from, &reached).await?;
    let (mut left, mut moved, mut away) = (u64::MAX, now(), None);
    let begun = now();
    loop {
        // Asked before the threads' state: a replica that has stopped since has a reason that is told then.
        let still = reached.subtract(&session.gtid_executed().await?).count();
        if still < left {
            (left, moved) = (still, now());
        }
        let done = total.saturating_sub(still);
        r.world.reporter.progress(Progress { done, total: Some(total), unit: Unit::Transactions });
        if still == 0 {
            return super::forget(session).await;
        }
        match stopped(session, source, now() - begun > CONNECT).await? {
            None => away = None,
            Some(fault) if fault.kind == Kind::Damaged || fault.kind == Kind::Denied => return Err(fault),
            Some(fault) => {
                if now() - *away.get_or_insert(now()) > AWAY {
                    return Err(fault);
                }
                r.world.reporter.notice(&format!("{fault}; it is tried again"));
                r.world.clock.sleep(Duration::from_secs(1)).await;
                begin(session, from, &reached).await?;
            }
        }
        if now() - moved > STALL {
            let message =
                format!("replay the archive: {still} transactions left, none applied for {STALL:?}");
            return Err(Fault::failed(message).hint("look at the recovered server's log"));
        }
        r.world.clock.sleep(POLL).await;
    }
}

/// Begins to replicate, on a server that takes no other writes.
async fn begin(session: &mut dyn RecoveredSession, from: &ReplayFrom, until: &GtidSet) -> Result<()> {
    session.set_super_read_only(ReadOnly::Off).await?;
    let begun = session.replay_from(from, until).await;
    session.set_super_read_only(ReadOnly::Super).await?;
    begun
}

/// Why replication does not run, if it does not and should: trouble with the archive, which may pass. An applier that
/// failed does not go on by itself.
async fn stopped(
    session: &mut dyn RecoveredSession,
    source: &Limited<LineSource>,
    late: bool,
) -> Result<Option<Fault>> {
    let Some(state) = session.replication().await? else {
        return Err(Fault::failed("replay the archive: the replication channel is gone"));
    };
    if let Some(fault) = source.trouble() {
        return Ok(Some(fault.during("replay the archive")));
    }
    if state.io_running && state.sql_running {
        return Ok(None);
    }
    match state.last_error {
        Some(error) if error.contains("gap") || error.contains("lacks") => {
            Err(Fault::new(Kind::Damaged, format!("replay the archive: {error}")))
        }
        Some(error) if !state.sql_running => {
            let message = format!("replay the archive: {error}");
            Err(Fault::failed(message)
                .hint("look at the recovered server's log; recover to a moment before this transaction"))
        }
        // A receiver that cannot connect tries again by itself; one that was sent what it cannot take has stopped.
        Some(error) if state.sql_running && !error.to_ascii_lowercase().contains("connecting to") => {
            Err(refused(session, source, &error).await?)
        }
        Some(error) if late => Err(Fault::failed(format!("replay the archive: {error}"))),
        _ => Ok(None),
    }
}

/// The receiver took something for damaged. The archive's own look names the object.
async fn refused(
    session: &mut dyn RecoveredSession,
    source: &Limited<LineSource>,
    error: &str,
) -> Result<Fault> {
    let executed = session.gtid_executed().await?;
    Ok(match source.source().damaged(&executed).await? {
        Some((object, wrong)) => {
            let message = format!(
                "replay the archive: read {object}: it is damaged: {wrong} (the server says: {error})"
            );
            Fault::new(Kind::Damaged, message)
                .hint("recover to a moment before what is in it; `backstop verify --content` names all that is damaged")
        }
        None => {
            Fault::failed(format!("replay the archive: {error}")).hint("look at the recovered server's log")
        }
    })
}

/// The server itself says what it holds; that must be the plan's set, no more and no less.
async fn verify(session: &mut dyn RecoveredSession, plan: &Replay) -> Result<()> {
    let (held, planned) = (session.gtid_executed().await?, plan.reached());
    if held == planned {
        return Ok(());
    }
    let message = format!(
        "the server does not hold what was planned after the replay: server `{held}`, plan `{planned}` (missing `{}`, beyond it `{}`)",
        planned.subtract(&held),
        held.subtract(&planned)
    );
    Err(Fault::new(Kind::Damaged, message).hint("remove the target directory, recover anew, and report this"))
}
