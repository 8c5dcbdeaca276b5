//! The command `backstop find`.

use backstop_engine::find::{self, TransactionSearch};
use backstop_engine::plan::PlanInputs;
use backstop_engine::report::FindReport;
use backstop_types::error::{Error, ErrorKind, Result};

use super::{CommandOutcome, known_or_stored, time_args};
use crate::app::App;
use crate::args::{FindArgs, FindKindArg};
use crate::output::Output;

/// Shows the archived transactions that match the search.
///
/// # Errors
/// As [`find::find`].
pub async fn run(args: &FindArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    output.report_in(&app.ctx.unless_stopped(perform(args, app)).await?, args.time_zone);
    Ok(CommandOutcome::Well)
}

/// Searches the archive.
///
/// # Errors
/// As [`find::find`]; [`ErrorKind::Usage`] if the time range ends before it begins.
pub async fn perform(args: &FindArgs, app: &App) -> Result<FindReport> {
    let time = |name, written| time_args::time(name, written, args.time_zone, &app.ctx);
    let (from, until) = (time("--from", args.from)?, time("--until", args.until)?);
    if let (Some(from), Some(until)) = (from, until)
        && from > until
    {
        return Err(Error::new(ErrorKind::Usage, "cannot search: --until is before --from")
            .hint("exchange the two times"));
    }
    let repository = app.repository().await?;
    known_or_stored(app, &repository, &args.shard).await?;
    let search = TransactionSearch {
        shard: args.shard.clone(),
        timeline: args.line,
        from,
        until,
        table: args.table.clone(),
        kind: args.kind.map(FindKindArg::kind),
        rows: args.rows,
        limit: args.limit,
    };
    let stored = PlanInputs {
        reader: &repository.reader(&args.shard),
        archive: &repository.archive(&args.shard),
        volumes: &app.volumes(&args.shard),
        now: app.ctx.host.clock.now(),
    };
    let work = async {
        let mut report = find::find(stored.archive, &search, &app.ctx).await?;
        // The search is useful without the advice too, for example if EC2 cannot be queried for a
        // backup.
        match find::advise(&report, &stored).await {
            Ok(advice) => report.advice = advice,
            Err(error) => {
                let text = format!("cannot determine before which of these a recovery can stop: {error}");
                app.ctx.reporter.notice(&text);
            }
        }
        Ok(report)
    };
    app.ctx.step("search", work).await
}
