//! Joins a recovered instance to its shard.

use std::time::Duration;

use backstop_policy::plan::{GtidReset, GtidStep, gtid_step};
use backstop_policy::topology::current_primary;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::progress::{Progress, ProgressUnit};
use backstop_types::topology::{InstanceState, Member};

use super::Recovery;
use super::catch_up_stall::CatchUpStall;
use crate::context::RunContext;
use crate::journal::Steps;
use crate::ports::{AdminSession, ReadOnly};

/// Interval at which replication is polled while it catches up.
const CATCH_UP_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A replica has caught up when it has all that the primary had this long ago.
const CAUGHT_UP_LAG: Duration = Duration::from_secs(2);
/// Time for a receiver to connect before its error ends the recovery.
const RECEIVER_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Time after which a primary has committed an archived transaction, unless it waits for an
/// acknowledgement.
const COMMIT_SETTLE_TIME: Duration = Duration::from_secs(5);

/// Checks that an instance holding `held` could join now. Returns a server id that no member of the
/// shard has.
pub(super) async fn check_joinable(recovery: &Recovery<'_>, held: &GtidSet) -> Result<u32> {
    let begun = recovery.ctx.host.clock.monotonic();
    loop {
        let members = recovery.topology.members().await?;
        let (_, primary) = current_primary(&members)?;
        match check_followable(primary, held) {
            Ok(()) => return server_id(recovery.ctx, &members),
            // A transaction may be archived an instant before its server has committed it.
            Err(error)
                if error.kind != ErrorKind::Refused
                    || recovery.ctx.host.clock.monotonic() - begun > COMMIT_SETTLE_TIME =>
            {
                return Err(error);
            }
            Err(_) => recovery.ctx.host.clock.sleep(CATCH_UP_POLL_INTERVAL).await,
        }
    }
}

/// Returns a random server id that no reachable member has.
///
/// # Errors
/// Fails if the host has no random numbers.
pub(crate) fn server_id(ctx: &RunContext, members: &[Member]) -> Result<u32> {
    let taken: Vec<u32> = states(members).map(|state| state.server_id).collect();
    loop {
        let id = (ctx.host.random.number()? >> 32) as u32;
        if id > 0 && id < u32::MAX && !taken.contains(&id) {
            return Ok(id);
        }
    }
}

/// Replicates from the current primary and waits until all its transactions are applied.
pub(super) async fn join(
    recovery: &Recovery<'_>,
    steps: &mut Steps<'_>,
    session: &mut dyn AdminSession,
) -> Result<()> {
    // A server that was restarted since an earlier run does not replicate until it is started
    // again.
    steps.again("follow", follow(recovery, session)).await?;
    steps.again("catch_up", catch_up(recovery, session)).await?;
    steps.again("semi_sync", semi_sync(recovery, session)).await
}

/// Makes `gtid_executed` exactly `held` on a server without the donor's binary logs. `held` comes
/// from the journal, never from the server: between the two statements of a reset the server's set
/// is empty.
pub(super) async fn set_own_gtids(
    recovery: &Recovery<'_>,
    steps: &mut Steps<'_>,
    session: &mut dyn AdminSession,
    held: &GtidSet,
) -> Result<()> {
    // Once it has begun to replicate, or accepts writes, it may hold newer transactions.
    if steps.has_begun("follow") || steps.has_begun("promote") {
        return Ok(());
    }
    let executed = session.gtid_executed().await?;
    let purged = session.gtid_purged().await?;
    let reset = GtidReset {
        server_uuid: session.server_uuid().await?,
        memory_tables: session.has_memory_tables().await?,
        begun: steps.has_begun("reset_gtids"),
        done: steps.is_done("reset_gtids"),
    };
    let step = gtid_step(&executed, held, &purged, &reset);
    if let GtidStep::Refuse { missing, extra } = &step {
        let message = format!(
            "the server's GTID set changed since it was verified: missing `{missing}`, extra `{extra}`"
        );
        return Err(Error::refused(message).hint("remove the directory and repeat the recovery"));
    }
    if step == GtidStep::Keep {
        return Ok(());
    }
    session.set_super_read_only(ReadOnly::Off).await?;
    if step == GtidStep::ResetAndSet {
        steps.once("reset_gtids", session.reset_gtids()).await?;
    }
    recovery.ctx.step("set_gtid_purged", session.set_gtid_purged(held)).await?;
    session.set_super_read_only(ReadOnly::Super).await
}

async fn follow(recovery: &Recovery<'_>, session: &mut dyn AdminSession) -> Result<()> {
    // Read before the primary's set, which then contains all of it even while this server already
    // replicates.
    let held = session.gtid_executed().await?;
    let members = recovery.topology.members().await?;
    let (endpoint, primary) = current_primary(&members)?;
    if session.server_uuid().await? == primary.server_uuid {
        return Err(Error::refused(format!(
            "cannot join the shard: the recovered server has the UUID of {endpoint}"
        )));
    }
    check_followable(primary, &held)?;
    session.set_super_read_only(ReadOnly::Off).await?;
    session.follow(endpoint).await?;
    session.set_super_read_only(ReadOnly::Super).await
}

/// Checks that the primary has all transactions of an instance and can still send all that it
/// lacks.
pub(crate) fn check_followable(primary: &InstanceState, held: &GtidSet) -> Result<()> {
    let extra = held.subtract(&primary.gtid_executed);
    if !extra.is_empty() {
        let message = format!("the server would have transactions that the shard's primary lacks: `{extra}`");
        return Err(Error::refused(message).hint("recover it with `--standalone`, or from another backup"));
    }
    let lost = primary.gtid_purged.subtract(held);
    if !lost.is_empty() {
        let message =
            format!("the primary has purged binary logs that the backup and the archive lack: `{lost}`");
        return Err(Error::new(ErrorKind::NotRecoverable, message)
            .hint("recover from a newer backup, or back up another member first"));
    }
    Ok(())
}

/// Waits until the instance has everything that the primary had at most [`CAUGHT_UP_LAG`] ago.
pub(super) async fn catch_up(recovery: &Recovery<'_>, session: &mut dyn AdminSession) -> Result<()> {
    let now = || recovery.ctx.host.clock.monotonic();
    let begun = now();
    let (mut wanted, mut asked) = (primary_set(recovery).await?, now());
    let mut total = None;
    let mut stall = CatchUpStall::begin(recovery.ctx);
    loop {
        let still = wanted.subtract(&session.gtid_executed().await?).count();
        let all = *total.get_or_insert(still);
        stall.observe(still);
        let done = all.saturating_sub(still);
        recovery.ctx.reporter.progress(Progress { done, total: Some(all), unit: ProgressUnit::Transactions });
        if replicating(recovery, session, begun).await? && still == 0 {
            if now() - asked <= CAUGHT_UP_LAG {
                return Ok(());
            }
            (wanted, asked) = (primary_set(recovery).await?, now());
            total = None;
            stall.expect_more();
            continue;
        }
        stall.check("the recovered server")?;
        recovery.ctx.host.clock.sleep(CATCH_UP_POLL_INTERVAL).await;
    }
}

/// True if both threads run. A thread that stopped with an error ends the recovery.
async fn replicating(
    recovery: &Recovery<'_>,
    session: &mut dyn AdminSession,
    begun: Duration,
) -> Result<bool> {
    let Some(state) = session.replication().await? else {
        return Err(Error::failed("cannot catch up with the primary: the replication channel is gone"));
    };
    if state.io_running && state.sql_running {
        return Ok(true);
    }
    let waited = recovery.ctx.host.clock.monotonic() - begun;
    match state.last_error {
        Some(error) if !state.sql_running || waited > RECEIVER_CONNECT_TIMEOUT => {
            Err(Error::failed(format!("cannot follow {}: {error}", state.source))
                .hint("check the replication account and its grants (docs/grants.md)"))
        }
        None if waited > RECEIVER_CONNECT_TIMEOUT => {
            Err(Error::failed(format!("cannot follow {}: replication is not running", state.source)))
        }
        _ => Ok(false),
    }
}

async fn primary_set(recovery: &Recovery<'_>) -> Result<GtidSet> {
    let members = recovery.topology.members().await?;
    let (_, primary) = current_primary(&members)?;
    Ok(primary.gtid_executed.clone())
}

/// Enables semi-synchronous acknowledgements if the other replicas send them.
async fn semi_sync(recovery: &Recovery<'_>, session: &mut dyn AdminSession) -> Result<()> {
    let members = recovery.topology.members().await?;
    if states(&members).any(|state| state.semi_sync_replica) {
        session.set_super_read_only(ReadOnly::Off).await?;
        session.enable_semi_sync_replica().await?;
        session.set_super_read_only(ReadOnly::Super).await?;
    }
    Ok(())
}

fn states(members: &[Member]) -> impl Iterator<Item = &InstanceState> {
    members.iter().filter_map(|member| member.state.as_ref().ok())
}
