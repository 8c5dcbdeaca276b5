//! Assesses orchestrator's answers: the usable parts, and the reasons against the others.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_types::topology::ExternalVerdict;

use super::{ClusterReading, InstanceKey, OrchestratorInstance, ReplicationAnalysis};

/// Age from which an instance's data is stale, in seconds.
const STALE_AFTER_SECONDS: i64 = 30;

/// An instance with the assessment of orchestrator's data on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssessedInstance<'a> {
    /// The instance.
    pub instance: &'a OrchestratorInstance,
    /// True if it is registered as the candidate for promotion.
    pub candidate: bool,
    /// Its verdict for the choice of the source.
    pub verdict: ExternalVerdict,
}

impl ClusterReading {
    /// Returns every instance, preferred ones first: by zone, depth, lag, then host and port. This
    /// order keeps the choice on one server while nothing changes, so that backups stay
    /// incremental.
    pub fn judged(&self, max_lag: Duration) -> Vec<AssessedInstance<'_>> {
        let mut instances: Vec<&OrchestratorInstance> = self.instances.iter().collect();
        instances.sort_by_key(|one| {
            (&one.data_center, one.replication_depth, one.replication_lag_seconds.int64, &one.key)
        });
        let judged = |(preference, instance)| {
            let verdict = ExternalVerdict {
                leads: self.sole_primary() == Some(instance),
                objection: self.objection(instance, max_lag),
                preference,
            };
            AssessedInstance { instance, candidate: instance.is_candidate(), verdict }
        };
        instances.into_iter().enumerate().map(judged).collect()
    }

    /// Returns the only fresh, writable primary in service.
    pub fn sole_primary(&self) -> Option<&OrchestratorInstance> {
        match self.writable_primaries()[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Returns the addresses of the recently seen primaries, on which two nodes must agree.
    pub fn primary_keys(&self) -> BTreeSet<&InstanceKey> {
        self.instances.iter().filter(|one| one.leads() && stale(one).is_none()).map(|one| &one.key).collect()
    }

    /// True if an instance was seen recently: an isolated node has no fresh data.
    pub fn is_fresh(&self) -> bool {
        self.instances.iter().any(|one| stale(one).is_none())
    }

    /// Returns the number of missing instances: those counted, or named as a source or a replica.
    /// Right after a failover the count lacks an instance that its source still names.
    pub fn missing(&self) -> usize {
        let listed: BTreeSet<&InstanceKey> = self.instances.iter().map(|one| &one.key).collect();
        let named = self
            .instances
            .iter()
            .flat_map(|one| one.replicas.iter().flatten().chain(std::iter::once(&one.master_key)));
        let all: BTreeSet<&InstanceKey> =
            named.filter(|key| key.endpoint().is_some()).chain(listed.iter().copied()).collect();
        all.len().max(self.cluster.count_instances) - listed.len()
    }

    /// Returns the first primary of this cluster that is dead or unreachable. After a failover,
    /// orchestrator assigns a dead primary to a separate cluster.
    pub fn dead_primary(&self) -> Option<&ReplicationAnalysis> {
        self.problems.iter().find(|problem| {
            let of = &problem.cluster_details;
            let ours = of.cluster_alias == self.cluster.cluster_alias
                || of.cluster_name == self.cluster.cluster_name;
            let dead = problem.analysis.starts_with("Dead") || problem.analysis.starts_with("Unreachable");
            ours && dead && (problem.is_master || problem.is_co_master)
        })
    }

    /// True if a backup could use the candidate or the primary, without an arbitrary replica.
    pub fn has_source(&self, max_lag: Duration) -> bool {
        let judged = self.judged(max_lag);
        judged.iter().any(|one| one.verdict.objection.is_none() && (one.candidate || one.verdict.leads))
    }

    fn writable_primaries(&self) -> Vec<&OrchestratorInstance> {
        let fit = |one: &&OrchestratorInstance| {
            one.leads() && !one.read_only && !one.is_downtimed && stale(one).is_none()
        };
        self.instances.iter().filter(fit).collect()
    }

    fn objection(&self, one: &OrchestratorInstance, max_lag: Duration) -> Option<String> {
        if one.server_uuid.is_empty() {
            return Some("orchestrator does not know its server UUID".to_owned());
        }
        let objection = stale(one).or_else(|| downtimed(one));
        if one.leads() {
            objection.or_else(|| self.not_sole(one))
        } else {
            objection.or_else(|| replica(one, max_lag))
        }
        .map(|why| format!("orchestrator reports that {why}"))
    }

    fn not_sole(&self, one: &OrchestratorInstance) -> Option<String> {
        if one.read_only {
            return Some("it is a primary that is read-only".to_owned());
        }
        let all = self.writable_primaries();
        let names: Vec<_> = all.iter().map(|one| one.endpoint().to_string()).collect();
        (all.len() > 1).then(|| {
            format!(
                "it is one of {} writable primaries ({}), which is ambiguous",
                all.len(),
                names.join(", ")
            )
        })
    }
}

fn stale(one: &OrchestratorInstance) -> Option<String> {
    let seen = one.seconds_since_last_seen;
    if !one.is_last_check_valid {
        return Some("orchestrator's last check of it failed".to_owned());
    }
    if !one.is_recently_checked {
        return Some("it was not checked recently".to_owned());
    }
    if !seen.valid {
        return Some("it was never seen".to_owned());
    }
    (seen.int64 > STALE_AFTER_SECONDS)
        .then(|| format!("it was last seen {} s ago (limit {STALE_AFTER_SECONDS} s)", seen.int64))
}

fn downtimed(one: &OrchestratorInstance) -> Option<String> {
    one.is_downtimed.then(|| "it is downtimed".to_owned())
}

fn replica(one: &OrchestratorInstance, max_lag: Duration) -> Option<String> {
    if one.is_detached {
        return Some("it is detached from its source".to_owned());
    }
    match (one.io_running, one.sql_running) {
        (true, true) => {}
        (false, true) => return Some("its receiver thread is not running".to_owned()),
        (true, false) => return Some("its applier thread is not running".to_owned()),
        (false, false) => return Some("its replication threads are not running".to_owned()),
    }
    if one.sql_delay > 0 {
        return Some(format!("its replication delay is set to {} s", one.sql_delay));
    }
    let lag = one.replication_lag_seconds;
    if !lag.valid {
        return Some("its lag is unknown".to_owned());
    }
    if u64::try_from(lag.int64).unwrap_or(0) > max_lag.as_secs() {
        return Some(format!("it lags {} s (limit {} s)", lag.int64, max_lag.as_secs()));
    }
    (!one.gtid_errant.is_empty()).then(|| format!("it has errant transactions: {}", one.gtid_errant))
}
