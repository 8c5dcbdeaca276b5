//! Prerequisites of the demo: a server program, a shard, a writer.

use std::path::PathBuf;
use std::sync::Arc;

use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_adapters::mysql::packages::{default_cache_dir, find_or_fetch};
use backstop_testbed::shard::make_template;
use backstop_testbed::{QuietReporter, Shard, Workload};
use backstop_types::error::Result;

use super::steps::DemoSteps;
use super::workdir::DemoDir;
use super::{COMMITS_BETWEEN_STEPS, Demo, LOAD};

/// Server program, and an empty data directory to copy.
pub(super) struct PreparedServer {
    pub(super) servers: LocalMysqld,
    pub(super) program: PathBuf,
    pub(super) template: PathBuf,
}

/// Finds or downloads a server program.
pub(super) async fn server(
    demo: &Demo,
    place: &DemoDir,
    steps: &mut DemoSteps<'_>,
) -> Result<PreparedServer> {
    steps.begin("get a server");
    let found = find_or_fetch(&default_cache_dir()?, demo.server.as_deref(), &*steps.ctx.reporter).await?;
    let servers = LocalMysqld::new(&found.mysqld, Arc::new(QuietReporter));
    let template = place.path("template");
    make_template(&servers, &template, &[]).await?;
    steps.end(format!("MySQL {} ({})", found.version, found.mysqld.display()));
    Ok(PreparedServer { servers, program: found.mysqld, template })
}

/// Starts a primary, a candidate and a replica.
pub(super) async fn shard(
    servers: &LocalMysqld,
    template: &std::path::Path,
    place: &DemoDir,
    steps: &mut DemoSteps<'_>,
) -> Result<Shard> {
    steps.begin("start a shard");
    let shard = Shard::start(servers, template, place.dir(), 3).await?;
    let roles = ["primary", "candidate", "replica"];
    let members =
        shard.endpoints().into_iter().zip(roles).map(|(endpoint, role)| format!("{role} {endpoint}"));
    steps.end(format!("{}; GTID replication", members.collect::<Vec<_>>().join(", ")));
    Ok(shard)
}

/// Starts the writer, and waits until the shard has data to lose.
pub(super) async fn writer(shard: &Shard, steps: &mut DemoSteps<'_>) -> Result<Workload> {
    steps.begin("write");
    let workload = Workload::start(shard.primary()?, LOAD).await?;
    workload.wait_for_more(COMMITS_BETWEEN_STEPS).await?;
    shard.settle().await?;
    steps.end(
        "four clients book orders and transfers on the primary; every acknowledged commit is recorded"
            .to_owned(),
    );
    Ok(workload)
}
