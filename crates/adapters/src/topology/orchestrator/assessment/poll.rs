//! Decides when to query orchestrator again before its answer is used: it lags behind a failover.

use std::time::Duration;

use backstop_types::finding::Finding;

use super::ClusterReading;

/// Default interval at which orchestrator polls an instance.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Delay of two polls: after a takeover an instance was missing for 5.5 s.
const TWO_POLL_INTERVALS: Duration = Duration::from_secs(10);
/// Longest duration of a failover.
const MAX_FAILOVER_TIME: Duration = Duration::from_secs(30);
/// Number of polls to wait for a leader or a source: half a minute.
const MAX_RETRIES: u32 = 6;

/// Code of the finding that orchestrator knows no candidate of the shard.
pub const CANDIDATE_EXPIRED: &str = "candidate-expired";

/// Decision on a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadingDecision {
    /// Wait this long, for this reason, and start again by finding the leader.
    Wait(Duration, String),
    /// Use it, with these warnings.
    Use(Vec<String>),
}

/// Waits so far: every reason has its limit; all together are at most 100 s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitBudget {
    missing: bool,
    failover: bool,
    leader: u32,
    source: u32,
}

impl WaitBudget {
    /// Decides whether to use this reading.
    pub fn next(&mut self, reading: &ClusterReading, max_lag: Duration) -> ReadingDecision {
        let missing = missing(reading);
        if let Some(why) = &missing
            && !std::mem::replace(&mut self.missing, true)
        {
            return ReadingDecision::Wait(TWO_POLL_INTERVALS, why.clone());
        }
        let dead = dead(reading);
        if let Some(why) = &dead
            && !std::mem::replace(&mut self.failover, true)
        {
            return ReadingDecision::Wait(MAX_FAILOVER_TIME, why.clone());
        }
        if !reading.has_source(max_lag) && self.source < MAX_RETRIES {
            self.source += 1;
            return ReadingDecision::Wait(
                POLL_INTERVAL,
                "neither a candidate nor a primary is usable".to_owned(),
            );
        }
        ReadingDecision::Use(missing.into_iter().chain(dead).chain(no_candidate(reading)).collect())
    }

    /// Returns the delay before the next search for a leader; `None` after the last retry.
    pub fn for_leader(&mut self) -> Option<Duration> {
        self.leader += 1;
        (self.leader <= MAX_RETRIES).then_some(POLL_INTERVAL)
    }
}

fn missing(reading: &ClusterReading) -> Option<String> {
    let (alias, listed) = (&reading.cluster.cluster_alias, reading.instances.len());
    match reading.missing() {
        0 => None,
        more => Some(format!("orchestrator lists {listed} instances of {alias} and lacks {more}")),
    }
}

fn dead(reading: &ClusterReading) -> Option<String> {
    let problem = reading.dead_primary()?;
    let key = &problem.analyzed_instance_key;
    Some(format!("orchestrator reports {} for the primary {}:{}", problem.analysis, key.hostname, key.port))
}

fn no_candidate(reading: &ClusterReading) -> Option<String> {
    reading.candidate_expired().map(|finding| finding.what)
}

impl ClusterReading {
    /// Returns the finding that no instance is registered as the candidate.
    pub fn candidate_expired(&self) -> Option<Finding> {
        let none = !self.instances.iter().any(super::OrchestratorInstance::is_candidate);
        let alias = &self.cluster.cluster_alias;
        none.then(|| {
            Finding::warning(
                CANDIDATE_EXPIRED,
                format!(
                    "orchestrator has no candidate registered for {alias}: registrations expire (after an hour by default)"
                ),
                "register it again, and from time to time: `orchestrator-client -c register-candidate -i HOST:PORT \
                 --promotion-rule prefer` (docs/orchestrator.md)",
            )
        })
    }
}
