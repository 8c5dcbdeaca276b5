//! Asking for the global read lock without piling up the server: look first, ask for a second at a time, and name
//! what is in the way.

use std::time::Duration;

use backstop_model::activity::{self, Activity, QueryKind, RunningQuery, Verdict};
use backstop_model::fault::{Fault, Result};
use backstop_model::freeze::FreezeRules;

use super::watchdog::Watchdog;
use super::{FreezeSession, Lock};
use crate::world::World;

/// A statement that has been running this long already is not expected to end at once.
const LONG: Duration = Duration::from_secs(1);
/// How long one request for the lock may wait. Every write waits behind it, so it is the shortest the server knows.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The lock is taken in several steps, each of which may wait for as long as an attempt.
const STEPS: u32 = 3;
/// How much later than the server itself the client gives up.
pub(super) const GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(100);
/// Between two attempts the writes that waited get on.
const BACK_OFF: Duration = Duration::from_millis(500);

/// Takes the global read lock within `rules.wait`.
pub(super) async fn lock_tables(
    session: &mut dyn FreezeSession,
    watchdog: &Watchdog,
    rules: &FreezeRules,
    world: &World,
) -> Result<()> {
    let until = world.clock.monotonic() + rules.wait;
    session.arm(rules.hold, ATTEMPT).await?;
    loop {
        wait_for_quiet(session, rules, until, world).await?;
        watchdog.hold(ATTEMPT * STEPS + 2 * GRACE);
        if session.lock_tables(ATTEMPT * STEPS + GRACE).await? == Lock::Granted {
            return Ok(());
        }
        // What the watchdog may end now is a session that holds nothing: it is told anew before each attempt.
        watchdog.hold(rules.wait + rules.hold + 2 * GRACE);
        after_time_out(session, rules, until, world).await?;
        world.clock.sleep(BACK_OFF).await;
    }
}

/// Waits until nothing is in the way. When half of the time has passed, blockers are killed if the rules allow it.
async fn wait_for_quiet(
    session: &mut dyn FreezeSession,
    rules: &FreezeRules,
    until: Duration,
    world: &World,
) -> Result<()> {
    loop {
        let activity = session.activity().await?;
        if activity::may_lock(&activity, LONG) == Verdict::Go {
            return Ok(());
        }
        let now = world.clock.monotonic();
        if now >= until {
            return Err(in_the_way("freeze: wait for a quiet moment", &activity, rules.wait));
        }
        if rules.kill_blockers && now + rules.wait / 2 >= until {
            kill(session, activity::in_the_way(&activity, LONG), world).await;
        }
        world.clock.sleep(POLL).await;
    }
}

/// A request that timed out can leave tables that wait to be flushed, and everything that uses them waits too. Only
/// the end of whatever holds them frees them.
async fn after_time_out(
    session: &mut dyn FreezeSession,
    rules: &FreezeRules,
    until: Duration,
    world: &World,
) -> Result<()> {
    let activity = settled(session, world).await?;
    if activity::piled_up(&activity).is_empty() {
        if world.clock.monotonic() >= until {
            return Err(in_the_way("freeze: take the global read lock", &activity, rules.wait));
        }
        return Ok(());
    }
    if !rules.kill_blockers {
        return Err(in_the_way("freeze: take the global read lock", &activity, ATTEMPT));
    }
    kill(session, blockers(&activity), world).await;
    Ok(())
}

/// What runs once the sessions that only waited for this lock have had a moment to get on.
async fn settled(session: &mut dyn FreezeSession, world: &World) -> Result<Activity> {
    let until = world.clock.monotonic() + GRACE;
    loop {
        let activity = session.activity().await?;
        if activity::piled_up(&activity).is_empty() || world.clock.monotonic() >= until {
            return Ok(activity);
        }
        world.clock.sleep(POLL).await;
    }
}

/// A session that may not be killed is named in the refusal that follows.
async fn kill(session: &mut dyn FreezeSession, blockers: Vec<&RunningQuery>, world: &World) {
    for query in blockers.into_iter().filter(|query| activity::killable(query)) {
        world.reporter.notice(&format!("killing a statement that is in the way of the freeze: {query}"));
        if let Err(fault) = session.kill_statement(query.id).await {
            world.reporter.notice(&format!("it was not killed: {fault}"));
        }
    }
}

/// What can hold up a lock right now: everything that runs, except what waits itself.
fn blockers(activity: &Activity) -> Vec<&RunningQuery> {
    let mut waiting = activity::piled_up(activity);
    // Another session's lock that waits makes everything behind it wait.
    waiting.retain(|query| query.kind != QueryKind::GlobalLock);
    let mut all = activity::in_the_way(activity, Duration::ZERO);
    all.retain(|query| !waiting.iter().any(|waits| waits.id == query.id));
    all.sort_by_key(|query| query.kind == QueryKind::Ordinary);
    all
}

/// A refusal that names what is in the way.
pub(super) fn in_the_way(doing: &str, activity: &Activity, waited: Duration) -> Fault {
    let blockers = blockers(activity);
    let piled = activity::piled_up(activity).len();
    let who = match blockers.first() {
        Some(query) => query.to_string(),
        None => "a session that runs nothing now holds locks (LOCK TABLES, or another freeze)".to_owned(),
    };
    let behind = match piled {
        0 => String::new(),
        n => format!("; {n} sessions wait for tables that it uses"),
    };
    Fault::refused(format!("{doing}: not possible within {waited:?}: {who}{behind}"))
        .hint("wait for it or end it, choose a quieter time, or allow `freeze.kill_blockers`")
}
