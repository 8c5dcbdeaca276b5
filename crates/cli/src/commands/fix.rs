//! `backstop check --fix`: shows, asks, does.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use backstop_adapters::mysql::connect::Connector;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::finding::Finding;
use backstop_model::ids::Endpoint;
use backstop_model::report::CheckReport;
use backstop_model::settings::ShardSettings;
use backstop_model::topology::choose_source;

use super::locking;
use crate::args::CheckArgs;
use crate::compose::App;

/// `SET PERSIST` and `INSTALL PLUGIN` are quick, unless something holds what they need.
const STATEMENT: Duration = Duration::from_secs(60);

/// Offers to mend what was found, and does it if that is wanted. True if something was done.
///
/// # Errors
/// When nobody can be asked, and when a statement fails.
pub async fn offer(args: &CheckArgs, app: &App, report: &CheckReport) -> Result<bool> {
    let Some(shard) = report.shards.first() else { return Ok(false) };
    let mendable: Vec<&Finding> = shard.findings.iter().filter(|finding| !finding.fix.is_empty()).collect();
    if mendable.is_empty() {
        app.world.reporter.notice("nothing was found that can be mended on the server");
        return Ok(false);
    }
    let settings = app.shard(&shard.shard)?;
    let endpoint = source(app, settings).await?;
    if !args.yes && !agreed(&endpoint, &mendable)? {
        return Ok(false);
    }
    app.world.unless_stopped(mend(app, settings, &endpoint, &mendable)).await?;
    Ok(true)
}

/// The member that the findings are about.
async fn source(app: &App, settings: &ShardSettings) -> Result<Endpoint> {
    let members = app.world.unless_stopped(app.topology(settings)?.look()).await?;
    let choice = choose_source(&members, &settings.source, settings.freeze.on_primary, locking(settings))?;
    Ok(choice.endpoint)
}

fn agreed(endpoint: &Endpoint, findings: &[&Finding]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let fault = Fault::new(Kind::Usage, format!("mend {endpoint}: there is no terminal to ask on"));
        return Err(
            fault.hint("add --yes to do it without asking, or paste the statements that `check` shows")
        );
    }
    let mut text = format!("\nOn {endpoint}, this would be run:\n");
    for finding in findings {
        text.push_str(&format!("\n  {}\n", finding.what));
        finding.fix.iter().for_each(|sql| text.push_str(&format!("    {sql};\n")));
    }
    text.push_str("\nRun it? [y/N] ");
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn mend(app: &App, settings: &ShardSettings, endpoint: &Endpoint, findings: &[&Finding]) -> Result<()> {
    let mut session = Connector::new(&app.credentials(settings)?).connect(endpoint).await?;
    for sql in findings.iter().flat_map(|finding| &finding.fix) {
        app.world.reporter.notice(&format!("{endpoint}: {sql}"));
        session.run_within(sql, STATEMENT).await.map_err(|error| {
            Fault::from(error).hint("docs/grants.md has the grants that `check --fix` needs")
        })?;
    }
    session.close().await;
    Ok(())
}
