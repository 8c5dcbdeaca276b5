//! Helpers of the tests of orchestrator: readings of a scripted one.

pub mod fake_orchestrator;

use std::time::Duration;

use backstop_adapters::mysql::connection::{Connector, Login};
use backstop_adapters::topology::{Orchestrator, OrchestratorTarget};
use backstop_config::credentials::OrchestratorAccess;
use backstop_engine::ports::Topology;
use backstop_types::error::Result;
use backstop_types::topology::Member;

use fake_orchestrator::{Answers, FakeOrchestrator, StageClock};

/// Reads `shop-1` through these addresses. Nothing listens where the recorded servers were.
pub async fn look_at(
    urls: &[String],
    access: &OrchestratorAccess,
    waits: &StageClock,
) -> Result<Vec<Member>> {
    adapter(urls, access, waits)?.members().await
}

/// Returns the adapter of `shop-1` at these addresses.
pub fn adapter(urls: &[String], access: &OrchestratorAccess, waits: &StageClock) -> Result<Orchestrator> {
    let asked = OrchestratorTarget { urls, cluster: "shop-1", access, max_lag: Duration::from_secs(60) };
    let login = Login { user: "backstop".into(), password: String::new().into() };
    Orchestrator::new(&asked, Connector::with_login(login, None), waits.run_context())
}

/// Returns the adapter of a scripted orchestrator, which is served until it is dropped.
pub async fn served(stages: Vec<Answers>) -> (Orchestrator, StageClock, FakeOrchestrator) {
    let waits = StageClock::new();
    let served = FakeOrchestrator::start(stages, &waits).await;
    let access = OrchestratorAccess::default();
    (adapter(std::slice::from_ref(&served.url), &access, &waits).unwrap(), waits, served)
}

/// Reads the cluster from a scripted orchestrator.
pub async fn look(stages: Vec<Answers>) -> (Result<Vec<Member>>, StageClock, FakeOrchestrator) {
    let waits = StageClock::new();
    let served = FakeOrchestrator::start(stages, &waits).await;
    let seen = look_at(std::slice::from_ref(&served.url), &OrchestratorAccess::default(), &waits).await;
    (seen, waits, served)
}

pub fn member(members: &[Member], port: u16) -> &Member {
    members.iter().find(|member| member.endpoint.port == port).unwrap()
}

/// Returns the objection against a member.
pub fn objection(members: &[Member], port: u16) -> &str {
    member(members, port).verdict.objection.as_deref().unwrap_or_default()
}

pub fn primary(members: &[Member]) -> Vec<u16> {
    members.iter().filter(|member| member.verdict.leads).map(|member| member.endpoint.port).collect()
}

pub fn candidates(members: &[Member]) -> Vec<u16> {
    members.iter().filter(|member| member.candidate).map(|member| member.endpoint.port).collect()
}
