//! `backstop find`.

use backstop_engine::find::{self, Search};
use backstop_engine::plan::Stored;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::report::FindReport;

use super::{Ended, known_or_stored, times};
use crate::args::{FindArgs, FoundKind};
use crate::compose::App;
use crate::output::Output;

/// Shows which archived transactions touched what.
///
/// # Errors
/// As [`find::find`].
pub async fn run(args: &FindArgs, app: &App, output: &Output) -> Result<Ended> {
    output.report_in(&app.world.unless_stopped(perform(args, app)).await?, args.time_zone);
    Ok(Ended::Well)
}

/// Searches.
///
/// # Errors
/// As [`find::find`]; [`Kind::Usage`] if the time ends before it begins.
pub async fn perform(args: &FindArgs, app: &App) -> Result<FindReport> {
    let time = |name, written| times::time(name, written, args.time_zone, &app.world);
    let (from, until) = (time("--from", args.from)?, time("--until", args.until)?);
    if let (Some(from), Some(until)) = (from, until)
        && from > until
    {
        return Err(Fault::new(Kind::Usage, "search: --until is before --from").hint("exchange them"));
    }
    let repository = app.repository().await?;
    known_or_stored(app, &repository, &args.shard).await?;
    let search = Search {
        shard: args.shard.clone(),
        line: args.line,
        from,
        until,
        table: args.table.clone(),
        kind: args.kind.map(FoundKind::kind),
        rows: args.rows,
        limit: args.limit,
    };
    let stored = Stored {
        reader: &repository.reader(&args.shard),
        archive: &repository.archive(&args.shard),
        volumes: &app.volumes(&args.shard),
        now: app.world.clock.now(),
    };
    let work = async {
        let mut report = find::find(stored.archive, &search, &app.world).await?;
        // A search has its use without advice, too: where EC2 cannot be asked for a backup, for example.
        match find::advise(&report, &stored).await {
            Ok(advice) => report.advice = advice,
            Err(fault) => {
                let text = format!("which of these a recovery can come just before is not known: {fault}");
                app.world.reporter.notice(&text);
            }
        }
        Ok(report)
    };
    app.world.step("search", work).await
}
