//! The command `backstop plan`.

use backstop_engine::plan::PlanOptions;
use backstop_types::error::Result;

use super::planned_recovery::plan_recovery;
use super::{CommandOutcome, time_args};
use crate::app::App;
use crate::args::PlanArgs;
use crate::output::Output;

/// Shows the backup that a recovery would use, and the recovery's steps.
///
/// # Errors
/// As [`plan_recovery`].
pub async fn run(args: &PlanArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let wanted = PlanOptions {
        shard: args.shard.clone(),
        target: time_args::target(&args.target, &app.ctx)?,
        timeline: args.target.line,
        backup: args.target.backup.clone(),
        into: args.into.clone(),
        port: args.port,
        listen: None,
        ending: args.ending(),
    };
    let (_, plan) = app.ctx.unless_stopped(plan_recovery(&wanted, app)).await?;
    output.report_in(&plan, args.target.time_zone);
    Ok(CommandOutcome::Well)
}
