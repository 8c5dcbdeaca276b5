//! The command `backstop repair`.

use backstop_engine::report::{RepairReport, RepairedIndex, RepairedLog, UnusableManifest};
use backstop_repo::{IndexRepair, LogRepair};
use backstop_types::error::Result;
use backstop_types::progress::Progress;

use super::CommandOutcome;
use crate::app::App;
use crate::args::RepairArgs;
use crate::output::Output;

/// Shows how a shard's logs and the indexes of its archive would be rebuilt from the stored
/// objects, or rebuilds them.
///
/// # Errors
/// The store's errors; [`backstop_types::error::ErrorKind::Held`] if a living run holds a log, or
/// an archiver the archive.
pub async fn run(args: &RepairArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let (ctx, shard) = (&app.ctx, &args.shard);
    let repaired = ctx.unless_stopped(async {
        let repository = app.repository().await?;
        let progress = |progress: Progress| ctx.reporter.progress(progress);
        if !args.apply {
            let logs = ctx.step("look", repository.plan_repair(shard, &progress)).await?;
            return Ok((logs, ctx.step("look", repository.plan_index_repair(shard)).await?));
        }
        // The logs come first, because claims are entered there.
        let logs = ctx.step("repair", repository.repair(shard, &progress)).await?;
        Ok((logs, ctx.step("repair", repository.repair_indexes(shard)).await?))
    });
    let (logs, indexes) = repaired.await?;
    let report = RepairReport {
        shard: shard.clone(),
        applied: args.apply,
        logs: logs.into_iter().map(log).collect(),
        indexes: indexes.into_iter().map(index).collect(),
    };
    let is_left = |index: &RepairedIndex| !args.apply || index.cannot.is_some();
    let left_to_do = (!args.apply && !report.logs.is_empty()) || report.indexes.iter().any(is_left);
    output.report(&report);
    Ok(if left_to_do { CommandOutcome::Attention } else { CommandOutcome::Well })
}

fn log(repair: LogRepair) -> RepairedLog {
    RepairedLog {
        log: repair.log,
        wrong: repair.wrong,
        kept: repair.kept,
        found: repair.found,
        gone: repair.gone,
        left: unusable(repair.left),
    }
}

fn index(repair: IndexRepair) -> RepairedIndex {
    let left = unusable(repair.left);
    RepairedIndex {
        index: repair.index,
        wrong: repair.wrong,
        aside: repair.aside,
        found: repair.found,
        lost: repair.lost,
        left,
        cannot: repair.cannot,
    }
}

fn unusable(left: Vec<(String, String)>) -> Vec<UnusableManifest> {
    left.into_iter().map(|(object, why)| UnusableManifest { object, why }).collect()
}
