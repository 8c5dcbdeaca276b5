//! `backstop plan`.

use backstop_engine::plan::{self, Stored, Wanted};
use backstop_model::fault::Result;

use super::{Ended, known_or_stored, times};
use crate::args::PlanArgs;
use crate::compose::App;
use crate::output::Output;

/// Shows which backup a recovery would use, and its steps.
///
/// # Errors
/// As [`plan::plan`].
pub async fn run(args: &PlanArgs, app: &App, output: &Output) -> Result<Ended> {
    let wanted = Wanted {
        shard: args.shard.clone(),
        target: times::target(&args.target, &app.world)?,
        line: args.target.line,
        backup: args.target.backup.clone(),
        into: args.into.clone(),
        port: args.port,
        listen: None,
        ending: args.ending(),
    };
    let planned = app.world.unless_stopped(async {
        let repository = app.repository().await?;
        known_or_stored(app, &repository, &wanted.shard).await?;
        let stored = Stored {
            reader: &repository.reader(&wanted.shard),
            archive: &repository.archive(&wanted.shard),
            volumes: &app.volumes(&wanted.shard),
            now: app.world.clock.now(),
        };
        plan::plan(&stored, &wanted).await
    });
    output.report_in(&planned.await?, args.target.time_zone);
    Ok(Ended::Well)
}
