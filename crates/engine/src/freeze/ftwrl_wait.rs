//! Takes the global read lock without blocking the server for long: checks for blockers first,
//! requests the lock for a second at a time, and names the blockers.

use std::time::Duration;

use backstop_policy::blocking_queries;
use backstop_policy::blocking_queries::{Activity, LockDecision, QueryKind, RunningQuery};
use backstop_types::error::{Error, Result};
use backstop_types::freeze::FreezeRules;

use super::watchdog::Watchdog;
use super::{FreezeSession, LockOutcome};
use crate::context::RunContext;

/// Age at which a running statement is not expected to end soon.
const LONG_RUNNING_STATEMENT: Duration = Duration::from_secs(1);
/// Timeout of one lock request. Every write waits behind it, so it is the shortest that the server
/// supports.
const LOCK_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Number of steps in which the lock is taken; each may wait for as long as an attempt.
const LOCK_STEPS: u32 = 3;
/// Time by which the client's timeout exceeds the server's.
pub(super) const CLIENT_TIMEOUT_MARGIN: Duration = Duration::from_secs(1);
const ACTIVITY_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Pause between two attempts, in which the waiting writes continue.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(500);

/// Takes the global read lock within `rules.wait`.
pub(super) async fn lock_tables(
    session: &mut dyn FreezeSession,
    watchdog: &Watchdog,
    rules: &FreezeRules,
    ctx: &RunContext,
) -> Result<()> {
    let until = ctx.host.clock.monotonic() + rules.wait;
    session.arm(rules.hold, LOCK_ATTEMPT_TIMEOUT).await?;
    loop {
        wait_for_quiet(session, rules, until, ctx).await?;
        watchdog.hold(LOCK_ATTEMPT_TIMEOUT * LOCK_STEPS + 2 * CLIENT_TIMEOUT_MARGIN);
        if session.lock_tables(LOCK_ATTEMPT_TIMEOUT * LOCK_STEPS + CLIENT_TIMEOUT_MARGIN).await?
            == LockOutcome::Granted
        {
            return Ok(());
        }
        // The watchdog may now kill only a session that holds nothing: its order is renewed before
        // each attempt.
        watchdog.hold(rules.wait + rules.hold + 2 * CLIENT_TIMEOUT_MARGIN);
        kill_stuck_flush_waits(session, rules, until, ctx).await?;
        ctx.host.clock.sleep(LOCK_RETRY_DELAY).await;
    }
}

/// Waits until no blocker runs. After half of the time kills blockers if the rules allow it.
async fn wait_for_quiet(
    session: &mut dyn FreezeSession,
    rules: &FreezeRules,
    until: Duration,
    ctx: &RunContext,
) -> Result<()> {
    loop {
        let activity = session.activity().await?;
        if blocking_queries::decide_lock(&activity, LONG_RUNNING_STATEMENT) == LockDecision::Go {
            return Ok(());
        }
        let now = ctx.host.clock.monotonic();
        if now >= until {
            return Err(blocked_error("cannot freeze the source", &activity, rules.wait));
        }
        if rules.kill_blockers && now + rules.wait / 2 >= until {
            kill(session, blocking_queries::blocking_queries(&activity, LONG_RUNNING_STATEMENT), ctx).await;
        }
        ctx.host.clock.sleep(ACTIVITY_POLL_INTERVAL).await;
    }
}

/// Kills statements that hold tables with a pending flush, or refuses if the rules do not allow
/// that. A lock request that timed out can leave such tables, and everything that uses them waits;
/// only the end of those statements frees them.
async fn kill_stuck_flush_waits(
    session: &mut dyn FreezeSession,
    rules: &FreezeRules,
    until: Duration,
    ctx: &RunContext,
) -> Result<()> {
    let activity = activity_after_timeout(session, ctx).await?;
    if blocking_queries::queries_waiting_for_lock(&activity).is_empty() {
        if ctx.host.clock.monotonic() >= until {
            return Err(blocked_error("cannot take the global read lock", &activity, rules.wait));
        }
        return Ok(());
    }
    if !rules.kill_blockers {
        return Err(blocked_error("cannot take the global read lock", &activity, LOCK_ATTEMPT_TIMEOUT));
    }
    kill(session, blockers(&activity), ctx).await;
    Ok(())
}

/// Returns the running statements, after a pause in which sessions that waited only for this lock
/// continue.
async fn activity_after_timeout(session: &mut dyn FreezeSession, ctx: &RunContext) -> Result<Activity> {
    let until = ctx.host.clock.monotonic() + CLIENT_TIMEOUT_MARGIN;
    loop {
        let activity = session.activity().await?;
        if blocking_queries::queries_waiting_for_lock(&activity).is_empty()
            || ctx.host.clock.monotonic() >= until
        {
            return Ok(activity);
        }
        ctx.host.clock.sleep(ACTIVITY_POLL_INTERVAL).await;
    }
}

/// Kills the blockers. A session that may not be killed is named in the refusal that follows.
async fn kill(session: &mut dyn FreezeSession, blockers: Vec<&RunningQuery>, ctx: &RunContext) {
    for query in blockers.into_iter().filter(|query| blocking_queries::killable(query)) {
        ctx.reporter.notice(&format!("killing a statement that blocks the freeze: {query}"));
        if let Err(error) = session.kill_statement(query.id).await {
            ctx.reporter.notice(&format!("cannot kill the statement: {error}"));
        }
    }
}

/// Returns the statements that can block a lock now: everything that runs, except statements that
/// wait themselves.
fn blockers(activity: &Activity) -> Vec<&RunningQuery> {
    let mut waiting = blocking_queries::queries_waiting_for_lock(activity);
    // Another session's pending lock request makes everything behind it wait.
    waiting.retain(|query| query.kind != QueryKind::GlobalLock);
    let mut all = blocking_queries::blocking_queries(activity, Duration::ZERO);
    all.retain(|query| !waiting.iter().any(|waits| waits.id == query.id));
    all.sort_by_key(|query| query.kind == QueryKind::Ordinary);
    all
}

/// Returns a refusal that names the blockers.
pub(super) fn blocked_error(doing: &str, activity: &Activity, waited: Duration) -> Error {
    let blockers = blockers(activity);
    let piled = blocking_queries::queries_waiting_for_lock(activity).len();
    let who = match blockers.first() {
        Some(query) => query.to_string(),
        None => "an idle session holds locks (LOCK TABLES, or another freeze)".to_owned(),
    };
    let behind = match piled {
        0 => String::new(),
        n => format!("; {n} sessions wait for tables that it uses"),
    };
    Error::refused(format!("{doing} within {waited:?}: {who}{behind}"))
        .hint("wait for it or end it, choose a quieter time, or set `freeze.kill_blockers`")
}
