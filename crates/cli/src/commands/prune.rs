//! The command `backstop prune`.

use backstop_engine::prune::{self, Prune};
use backstop_engine::record_run;
use backstop_types::error::Result;
use backstop_types::run_history::Operation;

use super::CommandOutcome;
use crate::app::App;
use crate::args::PruneArgs;
use crate::output::Output;
use crate::render::PruneReports;

/// Shows what the retention policy would delete, or deletes it.
///
/// # Errors
/// As [`prune::prune`]; the shards before the faulty one are done.
pub async fn run(args: &PruneArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let names = app.shards(args.shard.as_ref())?;
    let repository = app.ctx.unless_stopped(app.repository()).await?;
    let mut shards = Vec::new();
    for shard in names {
        let settings = app.shard(&shard)?;
        let story = Prune {
            shard: &shard,
            retention: settings.retention.as_ref(),
            repository: &repository,
            volumes: &app.volumes(&shard),
            yes_really: args.yes_really,
            provider: settings.snapshot.provider,
            ctx: &app.ctx,
        };
        let report = match &args.undo {
            Some(ids) => prune::undo(&story, ids).await,
            None if args.apply => {
                let kept = (&repository, &shard);
                record_run::record_run(kept, Operation::Prune, &app.ctx, prune::prune(&story), |_| None).await
            }
            None => prune::plan(&story).await,
        };
        shards.push(report.map_err(|error| error.during(format_args!("cannot prune shard {shard}")))?);
    }
    output.report(&PruneReports { shards });
    Ok(CommandOutcome::Well)
}
