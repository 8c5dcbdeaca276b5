//! What the demonstration stands on: a server program, a shard, a writer.

use std::path::PathBuf;
use std::sync::Arc;

use backstop_adapters::mysql::packages::{default_cache_dir, find_or_fetch};
use backstop_adapters::mysql::server::Servers;
use backstop_lab::shard::make_template;
use backstop_lab::{Ledger, Quiet, Shard};
use backstop_model::fault::Result;

use super::place::Place;
use super::steps::Steps;
use super::{Demo, LOAD, SOME};

/// The server program, and an empty data directory to copy.
pub(super) struct Prepared {
    pub(super) servers: Servers,
    pub(super) program: PathBuf,
    pub(super) template: PathBuf,
}

/// Finds a server or fetches one.
pub(super) async fn server(demo: &Demo, place: &Place, steps: &mut Steps<'_>) -> Result<Prepared> {
    steps.begin("get a server");
    let found = find_or_fetch(&default_cache_dir()?, demo.server.as_deref(), &*steps.world.reporter).await?;
    let servers = Servers::new(&found.mysqld, Arc::new(Quiet));
    let template = place.path("template");
    make_template(&servers, &template, &[]).await?;
    steps.end(format!("MySQL {} ({})", found.version, found.mysqld.display()));
    Ok(Prepared { servers, program: found.mysqld, template })
}

/// Starts a primary, a candidate and a replica.
pub(super) async fn shard(
    servers: &Servers,
    template: &std::path::Path,
    place: &Place,
    steps: &mut Steps<'_>,
) -> Result<Shard> {
    steps.begin("start a shard");
    let shard = Shard::start(servers, template, place.dir(), 3).await?;
    let roles = ["primary", "candidate", "replica"];
    let members =
        shard.endpoints().into_iter().zip(roles).map(|(endpoint, role)| format!("{role} {endpoint}"));
    steps.end(format!("{}; GTID replication", members.collect::<Vec<_>>().join(", ")));
    Ok(shard)
}

/// Begins to write, and waits until the shard has something to lose.
pub(super) async fn writer(shard: &Shard, steps: &mut Steps<'_>) -> Result<Ledger> {
    steps.begin("write");
    let ledger = Ledger::start(shard.primary()?, LOAD).await?;
    ledger.wait_for_more(SOME).await?;
    shard.settle().await?;
    steps.end(
        "four clients book orders and transfers on the primary; every acknowledged commit is noted"
            .to_owned(),
    );
    Ok(ledger)
}
