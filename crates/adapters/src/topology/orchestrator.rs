//! A shard whose members orchestrator knows. orchestrator proposes the members; each member's own
//! answer by SQL decides.

mod assessment;
mod client;
mod cluster;
mod error;
mod leader;
mod listing;
mod repeated_notices;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backstop_config::credentials::OrchestratorAccess;
use backstop_engine::context::RunContext;
use backstop_engine::ports::Topology;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_types::error::{Error, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::Endpoint;
use backstop_types::topology::{ExternalVerdict, InstanceState, Member, NoAnswer};
use futures::future::join_all;

use super::static_members::state_of;
use crate::mysql::connection::Connector;
use crate::mysql::source_settings::source_settings;
use crate::topology::orchestrator::assessment::{
    AssessedInstance, ClusterReading, ReadingDecision, WaitBudget,
};
use client::OrchestratorNode;
use error::ReadError;
use repeated_notices::RepeatedNotices;

pub use assessment::CANDIDATE_EXPIRED;

const LOGIN_HINT: &str =
    "set `orchestrator_user` and `orchestrator_password` in the credentials file; read access is sufficient";

/// An orchestrator, and the cluster to read from it.
#[derive(Debug)]
pub struct OrchestratorTarget<'a> {
    /// Addresses of its nodes, each with a path prefix if it has one.
    pub urls: &'a [String],
    /// Exact alias of the cluster.
    pub cluster: &'a str,
    /// Credentials and certificates for its API.
    pub access: &'a OrchestratorAccess,
    /// Limit for the lag of a replica; one that lags more is not used.
    pub max_lag: Duration,
}

/// Members of one cluster of orchestrator's.
pub struct Orchestrator {
    nodes: Vec<OrchestratorNode>,
    cluster: String,
    max_lag: Duration,
    connector: Connector,
    ctx: RunContext,
    may_discover: bool,
    notices: RepeatedNotices,
    findings: Mutex<Vec<Finding>>,
}

impl Orchestrator {
    /// Creates an adapter for this orchestrator, which queries the members with this connector.
    /// Sends no request yet.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`](backstop_types::error::ErrorKind::Usage) if an address or the
    /// certificates cannot be read.
    pub fn new(asked: &OrchestratorTarget<'_>, connector: Connector, ctx: RunContext) -> Result<Self> {
        let nodes =
            asked.urls.iter().map(|url| OrchestratorNode::new(url, asked.access)).collect::<Result<_>>()?;
        let (cluster, max_lag) = (asked.cluster.to_owned(), asked.max_lag);
        let (notices, findings) = (RepeatedNotices::default(), Mutex::default());
        Ok(Self { nodes, cluster, max_lag, connector, ctx, may_discover: false, notices, findings })
    }

    /// Sets if orchestrator is asked to discover a server that has joined.
    #[must_use]
    pub fn discovering(mut self, may_discover: bool) -> Self {
        self.may_discover = may_discover;
        self
    }

    /// Returns a usable reading: no failover is in progress any more, or the wait for its end has
    /// timed out.
    async fn settled(&self) -> Result<(&OrchestratorNode, ClusterReading)> {
        let (mut waited, mut notices) = (WaitBudget::default(), self.notices.begin(self.now()));
        loop {
            let (wait, why) = match self.read().await {
                Ok((node, reading)) => match waited.next(&reading, self.max_lag) {
                    ReadingDecision::Wait(wait, why) => (wait, why),
                    ReadingDecision::Use(warnings) => {
                        let due = warnings.iter().filter(|warning| notices.is_due(warning));
                        due.for_each(|warning| self.ctx.reporter.notice(warning));
                        notices.end();
                        self.found(reading.candidate_expired());
                        return Ok((node, reading));
                    }
                },
                Err(ReadError::Lasting(error)) => return Err(error),
                Err(ReadError::Passing(error)) => match waited.for_leader() {
                    Some(wait) => (wait, error.message),
                    None => return Err(error),
                },
            };
            if notices.is_due(&why) {
                self.ctx.reporter.notice(&format!("{why}; retrying in {} s", wait.as_secs()));
            }
            self.ctx.host.clock.sleep(wait).await;
        }
    }

    fn found(&self, finding: Option<Finding>) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        *findings = finding.into_iter().collect();
    }

    fn now(&self) -> Duration {
        self.ctx.host.clock.monotonic()
    }

    /// Returns the leader's reading. A node that is cut off also claims to lead, so all nodes that
    /// claim it must agree.
    async fn read(&self) -> Result<(&OrchestratorNode, ClusterReading), ReadError> {
        let leaders = leader::leaders(&self.nodes).await?;
        let readings = join_all(leaders.iter().map(|node| cluster::read_cluster(node, &self.cluster))).await;
        let (mut told, mut troubles) = (Vec::new(), Vec::new());
        for (node, reading) in leaders.into_iter().zip(readings) {
            match reading {
                Ok(reading) => told.push((node, reading)),
                Err(trouble) => troubles.push(trouble),
            }
        }
        if told.iter().any(|(_, reading)| reading.is_fresh()) {
            told.retain(|(_, reading)| reading.is_fresh());
        }
        check_agreement(&self.cluster, &told)?;
        match (told.into_iter().next(), troubles.into_iter().next()) {
            (Some(told), _) => Ok(told),
            (None, Some(trouble)) => Err(trouble),
            (None, None) => {
                Err(ReadError::Passing(Error::failed("cannot query orchestrator: no node answered")))
            }
        }
    }

    /// Makes orchestrator refresh the instances that may be chosen.
    async fn refreshed(
        &self,
        node: &OrchestratorNode,
        mut reading: ClusterReading,
    ) -> Result<(ClusterReading, BTreeMap<Endpoint, String>)> {
        let wanted: Vec<Endpoint> = reading
            .judged(self.max_lag)
            .iter()
            .filter(|one| one.verdict.objection.is_none() && (one.candidate || one.verdict.leads))
            .map(|one| one.instance.endpoint())
            .collect();
        let failed = cluster::refresh(node, &wanted).await;
        reading.instances =
            cluster::instances(node, &self.cluster).await.map_err(|trouble| match trouble {
                ReadError::Passing(error) | ReadError::Lasting(error) => error,
            })?;
        Ok((reading, failed))
    }

    async fn member(&self, judged: AssessedInstance<'_>, failed: &BTreeMap<Endpoint, String>) -> Member {
        let endpoint = judged.instance.endpoint();
        let state = state_of(&self.connector, &endpoint).await;
        let state = state.and_then(|state| check_identity(state, &judged.instance.server_uuid));
        let mut verdict = judged.verdict;
        verdict.objection = verdict.objection.or_else(|| failed.get(&endpoint).cloned());
        if let Some(why) = &verdict.objection {
            tracing::info!(%endpoint, why, "rejected as a source");
        }
        Member { endpoint, candidate: judged.candidate, state, verdict }
    }
}

#[async_trait]
impl Topology for Orchestrator {
    async fn members(&self) -> Result<Vec<Member>> {
        let (node, reading) = self.settled().await?;
        let (reading, failed) = self.refreshed(node, reading).await?;
        let judged = reading.judged(self.max_lag);
        Ok(join_all(judged.into_iter().map(|one| self.member(one, &failed))).await)
    }

    async fn probe(&self, server: &Endpoint) -> Member {
        Member {
            endpoint: server.clone(),
            candidate: false,
            state: state_of(&self.connector, server).await,
            verdict: ExternalVerdict::default(),
        }
    }

    async fn source_settings(&self, primary: &Endpoint) -> Result<SourceSettings> {
        source_settings(&self.connector, primary).await
    }

    fn findings(&self) -> Vec<Finding> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn await_listed(&self, server: Option<&Endpoint>) -> Option<Finding> {
        Some(match server {
            Some(server) => self.wait_until_listed(server).await,
            None => listing::listens_on_loopback(&self.cluster),
        })
    }
}

fn check_agreement(cluster: &str, told: &[(&OrchestratorNode, ClusterReading)]) -> Result<(), ReadError> {
    let Some(((first, one), others)) = told.split_first() else { return Ok(()) };
    let Some((second, _)) = others.iter().find(|(_, other)| other.primary_keys() != one.primary_keys())
    else {
        return Ok(());
    };
    let (first, second) = (first.url(), second.url());
    let message =
        format!("cannot read cluster {cluster}: {first} and {second} claim to lead with different primaries");
    Err(ReadError::Passing(Error::refused(message).hint("find out which of them is isolated, and stop it")))
}

/// Checks that the server that answers is the one that orchestrator means. A server without UUID
/// (MariaDB) has an objection.
fn check_identity(state: InstanceState, uuid: &str) -> Result<InstanceState, NoAnswer> {
    let found = state.server_uuid.to_string();
    if uuid.is_empty() || found.eq_ignore_ascii_case(uuid) {
        return Ok(state);
    }
    Err(NoAnswer::Mistaken(format!("its server UUID is {found}, orchestrator reports {uuid}")))
}
