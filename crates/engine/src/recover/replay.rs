//! Replays the archive on a restored backup.
//!
//! The recovered server replicates from a binlog server in this process, which sends exactly the
//! plan's transactions. Its GTID set holds what it has executed, so an interrupted replay resumes
//! where it stopped. Durability is relaxed during the replay: a crash of the machine, not of a
//! process, can then corrupt the data; a changed boot id detects this.

use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::{BinlogServer, BoundedSource, PasswordCheck};
use backstop_host::Identity;
use backstop_policy::plan::Replay;
use backstop_repo::{Manifest, TimelineSource};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use backstop_types::progress::{Progress, ProgressUnit};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::Recovery;
use crate::journal::Steps;
use crate::ports::{AdminSession, ReadOnly, ReplaySource};

const REPLAY_USER: &str = "backstop_replay";
/// Interval at which the server's progress is polled.
const REPLAY_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time without an applied transaction after which a replay fails: a single one of many GiB takes
/// long.
const REPLAY_STALL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest outage of the archive's store that a replay survives.
const STORE_OUTAGE_LIMIT: Duration = Duration::from_secs(600);
/// Time for a receiver to connect.
const RECEIVER_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for any packet of the server except its next command.
const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Settings to restore after the replay, and the boot of the machine in which it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RelaxedSettings {
    boot: String,
    settings: Vec<(String, String)>,
}

/// Applies exactly the plan's transactions, if it has any.
pub(super) async fn replay(
    recovery: &Recovery<'_>,
    steps: &mut Steps<'_>,
    session: &mut dyn AdminSession,
    manifest: &Manifest,
    plan: &Replay,
) -> Result<()> {
    if plan.gtids.is_empty() || steps.is_done("verify_replay") {
        return Ok(());
    }
    let boot = boot_id(&*recovery.ctx.host.identity)?;
    let relaxed = steps.once("relax", relax_durability(session, &boot)).await?;
    check_same_boot(&relaxed, &boot, steps)?;
    if !steps.is_done("replay") {
        // A restarted server has its own settings again; one that kept running may still be
        // replicating.
        super::forget_replication(session).await?;
        session.relax_durability().await?;
        steps.again("replay", apply(recovery, session, manifest, plan)).await?;
    }
    steps.again("restore_settings", session.restore_settings(&relaxed.settings)).await?;
    steps.once("verify_replay", verify(session, plan)).await
}

async fn relax_durability(session: &mut dyn AdminSession, boot: &str) -> Result<RelaxedSettings> {
    super::forget_replication(session).await?;
    Ok(RelaxedSettings { boot: boot.to_owned(), settings: session.relax_durability().await? })
}

/// Checks that the machine was not rebooted: transactions executed with relaxed durability survive
/// a restart of the server, but not of the machine.
fn check_same_boot(relaxed: &RelaxedSettings, boot: &str, steps: &Steps<'_>) -> Result<()> {
    if steps.is_done("restore_settings") || relaxed.boot == boot {
        return Ok(());
    }
    let message = "cannot resume the replay: the host was rebooted, and the replayed data may be incomplete";
    Err(Error::refused(message).hint("remove the target directory and repeat the recovery"))
}

fn boot_id(identity: &dyn Identity) -> Result<String> {
    let boot = identity.this_process().boot;
    if boot.is_empty() { Err(Error::failed("cannot determine the id of this boot")) } else { Ok(boot) }
}

async fn apply(
    recovery: &Recovery<'_>,
    session: &mut dyn AdminSession,
    manifest: &Manifest,
    plan: &Replay,
) -> Result<()> {
    let source = Arc::new(BoundedSource::new(recovery.archive.timeline(plan.timeline), plan.reached()));
    let doing = "cannot listen on loopback for the replay";
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.failed(doing)?;
    let port = listener.local_addr().failed(doing)?.port();
    let random = &recovery.ctx.host.random;
    let password = format!("{:032x}", u128::from_le_bytes(random.bytes()?)).into();
    let clock = Arc::clone(&recovery.ctx.host.clock);
    let server = BinlogServer {
        source: source.clone(),
        user: REPLAY_USER.to_owned(),
        password: PasswordCheck::new(&password),
        server_id: (random.number()? >> 32) as u32 | 1,
        server_uuid: server_uuid(recovery)?,
        version: manifest.facts.server_version.to_string(),
        now: Arc::new(move || clock.now().timestamp()),
        deadline: CLIENT_IDLE_TIMEOUT,
    };
    let from = ReplaySource { port, user: REPLAY_USER.to_owned(), password };
    tokio::select! {
        biased;
        served = server.serve(listener) => served,
        applied = follow(recovery, session, plan, &from, &source) => applied,
    }
}

fn server_uuid(recovery: &Recovery<'_>) -> Result<ServerUuid> {
    let bytes = recovery.ctx.host.random.bytes()?;
    Ok(ServerUuid(uuid::Builder::from_random_bytes(bytes).into_uuid()))
}

/// Replicates until everything is applied.
async fn follow(
    recovery: &Recovery<'_>,
    session: &mut dyn AdminSession,
    plan: &Replay,
    from: &ReplaySource,
    source: &BoundedSource<TimelineSource>,
) -> Result<()> {
    let now = || recovery.ctx.host.clock.monotonic();
    let (total, reached) = (plan.gtids.count(), plan.reached());
    begin(session, from, &reached).await?;
    let (mut left, mut moved, mut away) = (u64::MAX, now(), None);
    let begun = now();
    loop {
        // Read before the state of the threads: the reason of a replica that has stopped in between
        // is then reported.
        let still = reached.subtract(&session.gtid_executed().await?).count();
        if still < left {
            (left, moved) = (still, now());
        }
        let done = total.saturating_sub(still);
        recovery.ctx.reporter.progress(Progress {
            done,
            total: Some(total),
            unit: ProgressUnit::Transactions,
        });
        if still == 0 {
            return super::forget_replication(session).await;
        }
        match stop_reason(session, source, now() - begun > RECEIVER_CONNECT_TIMEOUT).await? {
            None => away = None,
            Some(error) if error.kind == ErrorKind::Damaged || error.kind == ErrorKind::Denied => {
                return Err(error);
            }
            Some(error) => {
                if now() - *away.get_or_insert(now()) > STORE_OUTAGE_LIMIT {
                    return Err(error);
                }
                recovery.ctx.reporter.notice(&format!("{error}; retrying"));
                recovery.ctx.host.clock.sleep(Duration::from_secs(1)).await;
                begin(session, from, &reached).await?;
            }
        }
        if now() - moved > REPLAY_STALL_TIMEOUT {
            let message = format!(
                "cannot replay the archive: {still} transactions left, none applied for {REPLAY_STALL_TIMEOUT:?}"
            );
            return Err(Error::failed(message).hint("check the recovered server's error log"));
        }
        recovery.ctx.host.clock.sleep(REPLAY_POLL_INTERVAL).await;
    }
}

/// Starts replication on a server that accepts no other writes.
async fn begin(session: &mut dyn AdminSession, from: &ReplaySource, until: &GtidSet) -> Result<()> {
    session.set_super_read_only(ReadOnly::Off).await?;
    let begun = session.replay_from(from, until).await;
    session.set_super_read_only(ReadOnly::Super).await?;
    begun
}

/// Returns the reason why replication has stopped, if it should run: a fault of the archive, which
/// may pass. A failed applier does not continue by itself.
async fn stop_reason(
    session: &mut dyn AdminSession,
    source: &BoundedSource<TimelineSource>,
    late: bool,
) -> Result<Option<Error>> {
    let Some(state) = session.replication().await? else {
        return Err(Error::failed("cannot replay the archive: the replication channel is gone"));
    };
    if let Some(failure) = source.trouble() {
        return Ok(Some(failure.during("cannot replay the archive")));
    }
    if state.io_running && state.sql_running {
        return Ok(None);
    }
    match state.last_error {
        Some(error) if error.contains("gap") || error.contains("lacks") => {
            Err(Error::new(ErrorKind::Damaged, format!("cannot replay the archive: {error}")))
        }
        Some(error) if !state.sql_running => {
            let message = format!("cannot replay the archive: {error}");
            Err(Error::failed(message)
                .hint("check the recovered server's error log; recover to a moment before this transaction"))
        }
        // A receiver that cannot connect retries by itself; one that received data it cannot use
        // has stopped.
        Some(error) if state.sql_running && !error.to_ascii_lowercase().contains("connecting to") => {
            Err(damage_error(session, source, &error).await?)
        }
        Some(error) if late => Err(Error::failed(format!("cannot replay the archive: {error}"))),
        _ => Ok(None),
    }
}

/// Returns the error for a receiver that found damage. Reading the archive names the object.
async fn damage_error(
    session: &mut dyn AdminSession,
    source: &BoundedSource<TimelineSource>,
    error: &str,
) -> Result<Error> {
    let executed = session.gtid_executed().await?;
    Ok(match source.source().damaged(&executed).await? {
        Some((object, wrong)) => {
            let message = format!(
                "cannot replay the archive: cannot read {object}: it is damaged: {wrong} (the server reports: {error})"
            );
            Error::new(ErrorKind::Damaged, message)
                .hint("recover to a moment before its transactions; `backstop verify --content` lists damage")
        }
        None => Error::failed(format!("cannot replay the archive: {error}"))
            .hint("check the recovered server's error log"),
    })
}

/// Compares the server's GTID set with the plan's; they must be equal.
async fn verify(session: &mut dyn AdminSession, plan: &Replay) -> Result<()> {
    let (held, planned) = (session.gtid_executed().await?, plan.reached());
    if held == planned {
        return Ok(());
    }
    let message = format!(
        "the server's GTID set differs from the plan's after the replay: server `{held}`, plan `{planned}` (missing `{}`, extra `{}`)",
        planned.subtract(&held),
        held.subtract(&planned)
    );
    Err(Error::new(ErrorKind::Damaged, message)
        .hint("remove the target directory, repeat the recovery, and report this"))
}
