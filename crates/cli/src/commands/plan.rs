//! The command `backstop plan`.

use backstop_engine::plan::{self, PlanInputs, PlanOptions};
use backstop_types::error::Result;

use super::{CommandOutcome, known_or_stored, time_args};
use crate::app::App;
use crate::args::PlanArgs;
use crate::output::Output;

/// Shows the backup that a recovery would use, and the recovery's steps.
///
/// # Errors
/// As [`plan::plan`].
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
    let planned = app.ctx.unless_stopped(async {
        let repository = app.repository().await?;
        known_or_stored(app, &repository, &wanted.shard).await?;
        let stored = PlanInputs {
            reader: &repository.reader(&wanted.shard),
            archive: &repository.archive(&wanted.shard),
            volumes: &app.volumes(&wanted.shard),
            now: app.ctx.host.clock.now(),
        };
        plan::plan(&stored, &wanted).await
    });
    output.report_in(&planned.await?, args.target.time_zone);
    Ok(CommandOutcome::Well)
}
