//! `backstop repair`.

use backstop_model::fault::Result;
use backstop_model::progress::Progress;
use backstop_model::report::{RepairReport, RepairedLog, Unusable};
use backstop_repo::LogRepair;

use super::Ended;
use crate::args::RepairArgs;
use crate::compose::App;
use crate::output::Output;

/// Shows how a shard's logs would be rebuilt from what is stored, or rebuilds them.
///
/// # Errors
/// The store's; [`backstop_model::fault::Kind::Held`] when a living run holds a log.
pub async fn run(args: &RepairArgs, app: &App, output: &Output) -> Result<Ended> {
    let repaired = app.world.unless_stopped(async {
        let repository = app.repository().await?;
        let progress = |progress: Progress| app.world.reporter.progress(progress);
        match args.apply {
            true => app.world.step("repair", repository.repair(&args.shard, &progress)).await,
            false => app.world.step("look", repository.plan_repair(&args.shard, &progress)).await,
        }
    });
    let logs: Vec<RepairedLog> = repaired.await?.into_iter().map(log).collect();
    let left_to_do = !args.apply && !logs.is_empty();
    output.report(&RepairReport { shard: args.shard.clone(), applied: args.apply, logs });
    Ok(if left_to_do { Ended::Attention } else { Ended::Well })
}

fn log(repair: LogRepair) -> RepairedLog {
    let left = repair.left.into_iter().map(|(object, why)| Unusable { object, why });
    RepairedLog {
        log: repair.log,
        wrong: repair.wrong,
        kept: repair.kept,
        found: repair.found,
        gone: repair.gone,
        left: left.collect(),
    }
}
