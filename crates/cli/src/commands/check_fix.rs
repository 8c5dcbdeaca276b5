//! The command `backstop check --fix`: shows the statements, asks for confirmation, and runs them.

use std::io::IsTerminal;
use std::time::Duration;

use backstop_adapters::mysql::connection::Connector;
use backstop_config::settings::ShardSettings;
use backstop_engine::report::CheckReport;
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_policy::stream_or_fork::enables_semi_sync;
use backstop_policy::topology::choose_source;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::{Endpoint, ShardName};

use crate::app::App;
use crate::args::CheckArgs;
use crate::output::Output;

/// Limit for a statement. `SET PERSIST` and `INSTALL PLUGIN` are quick, unless another session
/// holds a lock that they need.
const FIX_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Time within which a running archiver writes a new heartbeat; it writes one every 5 s.
const ARCHIVER_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay between two looks for a new heartbeat.
const ARCHIVER_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Offers to fix the findings, and fixes them after confirmation. Returns true if anything was
/// changed.
///
/// # Errors
/// Returns an error if no terminal can ask for confirmation, or if a statement fails.
pub async fn offer_fixes(args: &CheckArgs, app: &App, report: &CheckReport, output: &Output) -> Result<bool> {
    let Some(shard) = report.shards.first() else { return Ok(false) };
    let fixable: Vec<&Finding> = shard.findings.iter().filter(|finding| !finding.fix.is_empty()).collect();
    if fixable.is_empty() {
        app.ctx.reporter.remark("no finding can be corrected on the server");
        return Ok(false);
    }
    let settings = app.shard(&shard.shard)?;
    let mut fixes: Vec<(Endpoint, &Finding)> = Vec::new();
    for finding in fixable {
        let endpoint = match &finding.on {
            Some(endpoint) => endpoint.clone(),
            None => source(app, settings).await?,
        };
        fixes.push((endpoint, finding));
    }
    if !args.yes && !confirm_fixes(&fixes, output)? {
        return Ok(false);
    }
    if fixes.iter().any(|(_, finding)| finding.fix.iter().any(|sql| enables_semi_sync(sql))) {
        see_archiver(app, &shard.shard).await?;
    }
    for (endpoint, finding) in &fixes {
        // A finding's statements are not interrupted: the last may restore what the first changed.
        apply_fix(app, settings, endpoint, finding).await?;
    }
    Ok(true)
}

/// Waits for a new heartbeat of the archiver. An old one does not prove that it runs, and a primary
/// that waits for a stopped archiver accepts no writes.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] if there is none within [`ARCHIVER_HEARTBEAT_TIMEOUT`].
async fn see_archiver(app: &App, shard: &ShardName) -> Result<()> {
    let archive = app.repository().await?.archive(shard);
    let clock = &app.ctx.host.clock;
    let deadline = clock.monotonic() + ARCHIVER_HEARTBEAT_TIMEOUT;
    let before = archive.alive().await?.map(|alive| alive.at);
    while clock.monotonic() < deadline {
        let alive = archive.alive().await?;
        if alive.is_some_and(|alive| Some(alive.at) != before && alive.source.is_some()) {
            return Ok(());
        }
        let wait = async {
            clock.sleep(ARCHIVER_POLL_INTERVAL).await;
            Ok(())
        };
        app.ctx.unless_stopped(wait).await?;
    }
    let seconds = ARCHIVER_HEARTBEAT_TIMEOUT.as_secs();
    let message = format!(
        "cannot enable semi-synchronous replication: the archiver of shard {shard} sent no heartbeat in {seconds} s, and writes would wait for it"
    );
    Err(Error::refused(message).hint("nothing was changed: start the archiver, then run `check --fix` again"))
}

/// Returns the member that the findings concern.
async fn source(app: &App, settings: &ShardSettings) -> Result<Endpoint> {
    let members = app.ctx.unless_stopped(app.topology(settings)?.members()).await?;
    let SourceChoiceRules { source, on_primary, locking } = SourceChoiceRules::of(settings);
    let choice = choose_source(&members, source, on_primary, locking)?;
    Ok(choice.endpoint)
}

fn confirm_fixes(fixes: &[(Endpoint, &Finding)], output: &Output) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let message = "cannot correct the findings: there is no terminal to ask on";
        let hint = "add --yes to run the statements without asking, or paste those that `check` shows";
        return Err(Error::new(ErrorKind::Usage, message).hint(hint));
    }
    let mut shown = vec![String::new(), "These statements would run:".to_owned()];
    for (endpoint, finding) in fixes {
        shown.extend([String::new(), format!("  On {endpoint}: {}", finding.what)]);
        shown.extend(finding.fix.iter().map(|sql| format!("    {sql};")));
    }
    shown.push(String::new());
    Ok(output.ask(&shown, "Run them? [y/N]"))
}

/// Runs all statements of a finding, even after one has failed: the later ones restore the server's
/// earlier state.
async fn apply_fix(
    app: &App,
    settings: &ShardSettings,
    endpoint: &Endpoint,
    finding: &Finding,
) -> Result<()> {
    let connector = app.connector(settings)?;
    let mut outcome = Ok(());
    for sql in &finding.fix {
        app.ctx.reporter.remark(&format!("{endpoint}: {sql}"));
        let done = run(&connector, endpoint, sql).await;
        if let (Err(error), Err(_)) = (&done, &outcome) {
            app.ctx.reporter.notice(&error.to_string());
        }
        outcome = outcome.and(done);
    }
    outcome
}

/// Runs one statement in a separate session, so that a lost session does not keep the next
/// statement from running.
async fn run(connector: &Connector, endpoint: &Endpoint, sql: &str) -> Result<()> {
    let hint = "see docs/grants.md for the grants that `check --fix` needs";
    let mut session = connector.connect(endpoint).await?;
    session.run_within(sql, FIX_STATEMENT_TIMEOUT).await.map_err(|error| Error::from(error).hint(hint))?;
    session.close().await;
    Ok(())
}
