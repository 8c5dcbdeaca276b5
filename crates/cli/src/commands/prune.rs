//! `backstop prune`.

use backstop_engine::prune::{self, Prune};
use backstop_engine::runs;
use backstop_model::fault::Result;
use backstop_model::runs::Operation;

use super::Ended;
use crate::args::PruneArgs;
use crate::compose::App;
use crate::output::Output;
use crate::render::PruneReports;

/// Shows what retention no longer wants, or deletes it.
///
/// # Errors
/// As [`prune::prune`]; the shards before the one with the fault are done.
pub async fn run(args: &PruneArgs, app: &App, output: &Output) -> Result<Ended> {
    let names = app.shards(args.shard.as_ref())?;
    let repository = app.world.unless_stopped(app.repository()).await?;
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
            world: &app.world,
        };
        let report = match &args.undo {
            Some(ids) => prune::undo(&story, ids).await,
            None if args.apply => {
                let kept = (&repository, &shard);
                runs::kept(kept, Operation::Prune, &app.world, prune::prune(&story), |_| None).await
            }
            None => prune::plan(&story).await,
        };
        shards.push(report.map_err(|fault| fault.during(format_args!("prune shard {shard}")))?);
    }
    output.report(&PruneReports { shards });
    Ok(Ended::Well)
}
