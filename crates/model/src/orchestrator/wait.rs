//! When to look again before orchestrator's word is used: it lags behind a failover.

use std::time::Duration;

use super::Reading;

/// How often orchestrator polls an instance, unless it is configured otherwise.
const POLL: Duration = Duration::from_secs(5);
/// Two polls: after a takeover an instance was missing for 5.5 s.
const TWO_POLLS: Duration = Duration::from_secs(10);
/// A failover ends within it.
const FAILOVER: Duration = Duration::from_secs(30);
/// How many polls are waited for a leader or a source: half a minute.
const RETRIES: u32 = 6;

/// What to do with a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Wait so long, for this reason, and start over with finding the leader.
    Wait(Duration, String),
    /// Use it, with these warnings.
    Use(Vec<String>),
}

/// What was waited for already: every reason has its bound, 100 s all together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waited {
    missing: bool,
    failover: bool,
    leader: u32,
    source: u32,
}

impl Waited {
    /// Decides whether this reading is used.
    pub fn next(&mut self, reading: &Reading, max_lag: Duration) -> Next {
        let missing = missing(reading);
        if let Some(why) = &missing
            && !std::mem::replace(&mut self.missing, true)
        {
            return Next::Wait(TWO_POLLS, why.clone());
        }
        let dead = dead(reading);
        if let Some(why) = &dead
            && !std::mem::replace(&mut self.failover, true)
        {
            return Next::Wait(FAILOVER, why.clone());
        }
        if !reading.has_source(max_lag) && self.source < RETRIES {
            self.source += 1;
            return Next::Wait(POLL, "neither a candidate nor a primary is usable".to_owned());
        }
        Next::Use(missing.into_iter().chain(dead).chain(no_candidate(reading)).collect())
    }

    /// How long to wait before a leader is looked for again; `None` once it has been tried often enough.
    pub fn for_leader(&mut self) -> Option<Duration> {
        self.leader += 1;
        (self.leader <= RETRIES).then_some(POLL)
    }
}

fn missing(reading: &Reading) -> Option<String> {
    let (alias, listed) = (&reading.cluster.cluster_alias, reading.instances.len());
    match reading.missing() {
        0 => None,
        more => Some(format!("orchestrator lists {listed} instances of {alias} and lacks {more}")),
    }
}

fn dead(reading: &Reading) -> Option<String> {
    let problem = reading.dead_primary()?;
    let key = &problem.analyzed_instance_key;
    Some(format!("orchestrator reports {} for the primary {}:{}", problem.analysis, key.hostname, key.port))
}

fn no_candidate(reading: &Reading) -> Option<String> {
    let none = !reading.instances.iter().any(super::Instance::is_candidate);
    none.then(|| {
        format!(
            "orchestrator has no candidate registered for {}: registrations expire (after an hour by default)",
            reading.cluster.cluster_alias
        )
    })
}
