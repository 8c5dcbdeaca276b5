//! `backstop check`.

use backstop_engine::check::{self, Check};
use backstop_model::fault::{Fault, Result};
use backstop_model::finding::Finding;
use backstop_model::ids::ShardName;
use backstop_model::report::{CheckReport, ShardChecked};
use backstop_repo::Repository;

use super::{Ended, fix, locking};
use crate::args::CheckArgs;
use crate::compose::App;
use crate::output::Output;
use crate::systemd::active_schedule;

/// Says whether shards can be backed up and recovered; mends what can be mended if asked to.
///
/// # Errors
/// When nothing could be looked at. What stands in the way is a result: exit code 1.
pub async fn run(args: &CheckArgs, app: &App, output: &Output) -> Result<Ended> {
    let mut report = checked(args, app).await?;
    if args.fix && fix::offer(args, app, &report, output).await? {
        report = checked(args, app).await?;
    }
    output.report(&report);
    Ok(if report.ok { Ended::Well } else { Ended::Attention })
}

async fn checked(args: &CheckArgs, app: &App) -> Result<CheckReport> {
    let names = app.shards(args.shard.as_ref())?;
    let repository = app.world.unless_stopped(app.repository()).await?;
    let mut findings = Vec::new();
    if names.is_empty() {
        let todo = "add a table [shards.NAME] to the configuration";
        findings.push(Finding::problem("no-shard", "no shard is configured", todo));
    }
    let mut shards = Vec::new();
    for shard in names {
        app.world.reporter.step("check");
        shards.push(one(app, &repository, shard).await?);
    }
    Ok(CheckReport::new(findings, shards))
}

async fn one(app: &App, repository: &Repository, shard: ShardName) -> Result<ShardChecked> {
    let settings = app.shard(&shard)?;
    let (topology, instances) = match (app.topology(settings), app.instances(&shard, settings).await) {
        (Ok(topology), Ok(instances)) => (topology, instances),
        (Err(fault), _) | (_, Err(fault)) => {
            return Ok(ShardChecked { shard, coverage: None, findings: vec![unreadable(&fault)] });
        }
    };
    let story = Check {
        shard: &shard,
        source: &settings.source,
        on_primary: settings.freeze.on_primary,
        locking: locking(settings),
        schedule: settings.schedule.as_ref(),
        topology: &*topology,
        instances: &*instances,
        programs: &app.servers(),
        reader: &repository.reader(&shard),
        archived: app.archived(settings, repository.archive(&shard)),
        sources: &app.primaries(settings)?,
        schemas: &app.primaries(settings)?,
        world: &app.world,
    };
    let mut checked = check::check(&story).await?;
    checked.findings.extend(active_schedule(&shard, settings.schedule.as_ref()).await);
    Ok(checked)
}

fn unreadable(fault: &Fault) -> Finding {
    let todo = fault.hint.clone().unwrap_or_else(|| "correct the configuration".to_owned());
    Finding::problem("credentials", fault.message.clone(), todo)
}
