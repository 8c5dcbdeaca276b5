//! Freeze: takes position and snapshot together, within a time limit set in advance.
//!
//! Three mechanisms enforce the limit: the server itself drops a session that has been idle for
//! that long (even if this process is stopped or the network is cut), a watchdog on a second
//! connection kills the session, and the session ends with this process. [`Frozen`] owns the one
//! session that holds the lock and the position that was read in it.

mod ftwrl_wait;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_policy::blocking_queries::Activity;
use backstop_types::error::{Error, Result};
use backstop_types::freeze::{FreezeMode, FreezeReport, FreezeRules};
use backstop_types::server::Position;

use crate::context::RunContext;
use crate::ports::Clock;
use watchdog::Watchdog;

/// Opens sessions on the instance that is to be frozen.
#[async_trait]
pub trait FreezeSessions: Send + Sync {
    /// Opens a session. A freeze uses two: one that holds the lock, and one that watches and, if
    /// necessary, kills it.
    async fn open(&self) -> Result<Box<dyn FreezeSession>>;
}

/// One connection to the instance. Dropping it closes it, and the server then releases its locks.
#[async_trait]
pub trait FreezeSession: Send {
    /// Returns the connection's id, as KILL takes it.
    fn id(&self) -> u64;
    /// Returns the statements that run on the server now.
    async fn activity(&mut self) -> Result<Activity>;
    /// Makes the server enforce the limits of this session: it drops the session after `idle`
    /// without a statement, and a lock request fails after `lock_wait`. The server counts in whole
    /// seconds, at least one.
    async fn arm(&mut self, idle: Duration, lock_wait: Duration) -> Result<()>;
    /// Runs `FLUSH LOCAL TABLES WITH READ LOCK`.
    async fn lock_tables(&mut self, deadline: Duration) -> Result<LockOutcome>;
    /// Runs `LOCK INSTANCE FOR BACKUP`.
    async fn lock_instance(&mut self, deadline: Duration) -> Result<LockOutcome>;
    /// Runs `FLUSH LOCAL BINARY LOGS`, then `FLUSH LOCAL ENGINE LOGS`. In this order: the first
    /// makes InnoDB write the GTIDs of the finished binary log, the second puts everything InnoDB
    /// has written on disk.
    async fn flush_logs(&mut self) -> Result<()>;
    /// Reads `@@GLOBAL.gtid_executed` and the binary log position.
    async fn position(&mut self) -> Result<Position>;
    /// Reads the same from `performance_schema.log_status`: all its parts belong to one moment,
    /// without a lock.
    async fn log_status(&mut self) -> Result<Position>;
    /// Releases both kinds of lock.
    async fn unlock(&mut self) -> Result<()>;
    /// Kills another session. A session that is gone is not an error.
    async fn kill_session(&mut self, id: u64) -> Result<()>;
    /// Kills another session's statement. A session that is gone is not an error.
    async fn kill_statement(&mut self, id: u64) -> Result<()>;
}

/// Result of a lock request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOutcome {
    /// The lock is held.
    Granted,
    /// Another session held a lock that conflicts.
    TimedOut,
}

/// A frozen instance. [`Frozen::thaw`] consumes it; if it is dropped instead, ending its session
/// thaws the instance.
pub struct Frozen {
    session: Box<dyn FreezeSession>,
    watchdog: Watchdog,
    clock: Arc<dyn Clock>,
    position: Position,
    mode: FreezeMode,
    granted: Duration,
    waited: Duration,
    bound: Duration,
}

/// Blocks all writes: waits for a quiet moment, takes the global read lock, and makes all committed
/// transactions durable. Nothing is committed until the thaw, so the position is exactly that of
/// the snapshot.
///
/// # Errors
/// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) naming the blocking
/// statements if no quiet moment comes within `rules.wait`; otherwise fails if the lock is not
/// granted, or a step under it fails. No lock is held then.
pub async fn freeze_locked(
    sessions: &dyn FreezeSessions,
    rules: &FreezeRules,
    ctx: &RunContext,
) -> Result<Frozen> {
    let begun = ctx.host.clock.monotonic();
    let (mut session, watchdog) = watched_session(sessions, ctx).await?;
    ftwrl_wait::lock_tables(session.as_mut(), &watchdog, rules, ctx).await?;
    let granted = ctx.host.clock.monotonic();
    watchdog.hold(rules.hold);
    session.flush_logs().await.map_err(|error| error.during("cannot flush the logs under the read lock"))?;
    let position = session.position().await?;
    let (mode, waited) = (FreezeMode::Lock, granted.saturating_sub(begun));
    Ok(Frozen {
        session,
        watchdog,
        clock: ctx.host.clock.clone(),
        position,
        mode,
        granted,
        waited,
        bound: rules.hold,
    })
}

/// Blocks DDL only. The position is that of one moment before the snapshot; transactions committed
/// after it are in the snapshot's own binary log, after [`Position::binlog_position`].
///
/// # Errors
/// Fails if the lock is not granted within `rules.wait` (DDL is running), or a step under it fails.
pub async fn freeze_lock_free(
    sessions: &dyn FreezeSessions,
    rules: &FreezeRules,
    ctx: &RunContext,
) -> Result<Frozen> {
    let begun = ctx.host.clock.monotonic();
    let (mut session, watchdog) = watched_session(sessions, ctx).await?;
    session.arm(rules.hold, rules.wait).await?;
    watchdog.hold(rules.wait + ftwrl_wait::CLIENT_TIMEOUT_MARGIN);
    if session.lock_instance(rules.wait + ftwrl_wait::CLIENT_TIMEOUT_MARGIN).await? == LockOutcome::TimedOut {
        let activity = session.activity().await?;
        return Err(ftwrl_wait::blocked_error("cannot lock the instance for backup", &activity, rules.wait));
    }
    let granted = ctx.host.clock.monotonic();
    watchdog.hold(rules.hold);
    let position = session.log_status().await?;
    let (mode, waited) = (FreezeMode::LockFree, granted.saturating_sub(begun));
    Ok(Frozen {
        session,
        watchdog,
        clock: ctx.host.clock.clone(),
        position,
        mode,
        granted,
        waited,
        bound: rules.hold,
    })
}

/// Opens the session for the lock, and its watchdog on a separate connection.
async fn watched_session(
    sessions: &dyn FreezeSessions,
    ctx: &RunContext,
) -> Result<(Box<dyn FreezeSession>, Watchdog)> {
    let session = sessions.open().await?;
    let watchdog = Watchdog::start(sessions.open().await?, session.id(), &ctx.host);
    Ok((session, watchdog))
}

impl Frozen {
    /// Returns the position that was read in the session that holds the lock.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Returns the rest of the time limit.
    pub fn remaining(&self) -> Duration {
        (self.granted + self.bound).saturating_sub(self.clock.monotonic())
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// Fails if it cannot prove that the lock was held all the time and within the limit: the
    /// session was lost, the limit has passed, or a transaction was committed under the read lock.
    /// The snapshot taken in between must be discarded then. The lock is gone in any case.
    pub async fn thaw(mut self) -> Result<FreezeReport> {
        let doing = "cannot prove that the freeze held";
        if self.remaining().is_zero() {
            return Err(self.overrun());
        }
        // An answer in this session proves that it was never lost: a session is not reconnected.
        let now = self.session.position().await.map_err(|error| error.during(doing))?;
        if self.mode == FreezeMode::Lock && now.gtid_executed != self.position.gtid_executed {
            let more = now.gtid_executed.subtract(&self.position.gtid_executed);
            return Err(Error::failed(format!("{doing}: {more} was committed under the read lock")));
        }
        self.session.unlock().await.map_err(|error| error.during(doing))?;
        let held = self.clock.monotonic().saturating_sub(self.granted);
        if held > self.bound {
            return Err(self.overrun());
        }
        self.watchdog.stand_down();
        Ok(FreezeReport {
            mode: self.mode,
            held_ms: milliseconds(held),
            waited_ms: milliseconds(self.waited),
        })
    }

    fn overrun(&self) -> Error {
        let held = self.clock.monotonic().saturating_sub(self.granted);
        let message = format!(
            "cannot freeze the source: the snapshot took {held:.1?}, longer than the limit of {:.1?}; the lock was released and \
             the snapshot discarded",
            self.bound
        );
        Error::failed(message).hint("repeat the backup when the disk is less busy, or raise `freeze.hold`")
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
