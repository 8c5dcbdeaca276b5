//! The demo: the main job on a real shard that it creates, with checks that can fail.

mod compare;
mod configure;
mod disaster;
mod keep;
mod prepare;
mod purge;
mod steps;
mod workdir;

use std::path::PathBuf;
use std::sync::Arc;

use backstop_engine::context::RunContext;
use backstop_engine::report::{BackupReport, DemoReport, DroppedTableDemo, RecoverReport, TotalLossDemo};
use backstop_testbed::{Load, Shard, Workload};
use backstop_types::backup::BackupKind;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::ids::Endpoint;

use crate::app::App;
use crate::args::{CheckArg, EndingArgs, EventsArg, RecoverArgs, TargetArgs};
use crate::commands::{backup, recover};
use crate::format;

pub use keep::{DemoResult, KeptDemo};
use prepare::PreparedServer;
use steps::DemoSteps;
use workdir::DemoDir;

/// Name of the demo's shard.
const DEMO_SHARD: &str = "shop";
/// Commits between two steps, so that each step has data to preserve.
const COMMITS_BETWEEN_STEPS: u64 = 300;

/// Arguments of the demo.
#[derive(Debug, Clone)]
pub struct Demo {
    /// Keeps the servers and files for inspection.
    pub keep: bool,
    /// Working directory.
    pub dir: Option<PathBuf>,
    /// Server program, if one was named.
    pub server: Option<String>,
}

/// Runs the demo. On every exit path its servers are killed and its folder is removed, unless it is
/// to be kept.
///
/// # Errors
/// Returns an error if a step fails. A difference that is found at the end is a result, not an
/// error.
pub async fn demo(demo: &Demo, ctx: &RunContext) -> Result<DemoResult> {
    let place = DemoDir::take(demo.dir.as_deref(), ctx)?;
    let done = ctx.unless_stopped(run_steps(demo, &place, ctx)).await;
    match done {
        Ok(done) if demo.keep => place.keep().map(|()| done),
        done => done,
    }
}

async fn run_steps(demo: &Demo, place: &DemoDir, ctx: &RunContext) -> Result<DemoResult> {
    let mut steps = DemoSteps::new(ctx);
    let PreparedServer { servers, program, template } = prepare::server(demo, place, &mut steps).await?;
    let mut shard = prepare::shard(&servers, &template, place, &mut steps).await?;
    let workload = prepare::writer(&shard, &mut steps).await?;
    let app = configure::app(demo, place, &program, &shard, &mut steps)?;

    let (first, first_gap) = back_up(&app, &workload, &mut steps, "back up").await?;
    let rotated = purge::rotate(&shard).await?;
    workload.wait_for_more(COMMITS_BETWEEN_STEPS).await?;
    let (second, second_gap) = back_up(&app, &workload, &mut steps, "back up again").await?;
    workload.wait_for_more(COMMITS_BETWEEN_STEPS).await?;
    purge::purge(&shard, &servers, &template, place, &rotated, &second, &mut steps).await?;

    let lost = lose(&mut shard, &mut steps)?;
    workload.wait_for_more(COMMITS_BETWEEN_STEPS).await?;
    let recovered = rebuild(&app, place, &second, &mut steps).await?;
    let compared = compare::compare(&shard, workload, &recovered, &mut steps).await?;

    // With `--keep`, the shard stays alive for inspection.
    let (shard, disaster) = match demo.keep {
        true => (Some(shard), None),
        false => (None, Some(disaster(&app, shard, place, &mut steps).await?)),
    };
    let (dropped, total_loss) = disaster.unzip();
    let again = total_loss.as_ref().map_or((0, 0), |loss| (loss.acknowledged_commits, loss.lost_commits));
    let report = DemoReport {
        ok: compared.same() && again.1 == 0 && dropped.as_ref().is_none_or(|dropped| dropped.same),
        steps: steps.done(),
        acknowledged_commits: compared.acknowledged + again.0,
        lost_commits: compared.lost + again.1,
        first_backup: first,
        backup: second,
        longest_gaps_ms: vec![first_gap, second_gap],
        recover: recovered,
        dropped,
        total_loss,
    };
    let kept = shard.map(|shard| keep::keep(place, &program, shard, &lost)).transpose()?;
    Ok(DemoResult::new(report, kept))
}

/// Runs the steps with the archive: a dropped table, then the loss of everything.
async fn disaster(
    app: &App,
    shard: Shard,
    place: &DemoDir,
    steps: &mut DemoSteps<'_>,
) -> Result<(DroppedTableDemo, TotalLossDemo)> {
    let archiver = disaster::ArchiverProcess::start(app, &shard, place, steps).await?;
    let workload = disaster::writer(&shard).await?;
    let dropped = disaster::drop_table(app, &shard, &workload, place, steps).await?;
    let loss = disaster::lose_everything(app, shard, archiver, workload, place, steps).await?;
    Ok((dropped, loss))
}

/// Backs up as `backstop backup` does, while the writer continues. Returns the backup and the
/// longest time in which the primary acknowledged no commit, in milliseconds.
async fn back_up(
    app: &App,
    workload: &Workload,
    steps: &mut DemoSteps<'_>,
    name: &'static str,
) -> Result<(BackupReport, f64)> {
    steps.begin(name);
    let begun = workload.now();
    let report =
        backup::perform(app, &configure::shard_name()?, BackupKind::OnDemand, false).await?.made()?;
    let gap = workload.longest_gap(begun, workload.now()).as_secs_f64() * 1000.0;
    let kind = if report.parent.is_some() { "increment" } else { "full" };
    steps.end(format!(
        "{kind}, from {} under load: {} of {} stored; longest gap between commits {}",
        report.source.endpoint,
        format::bytes(report.sizes.stored_bytes),
        format::bytes(report.sizes.data_bytes),
        format::millis(gap),
    ));
    Ok((report, gap))
}

/// Kills the candidate and removes its files.
fn lose(shard: &mut Shard, steps: &mut DemoSteps<'_>) -> Result<Endpoint> {
    steps.begin("lose the candidate");
    let candidate = shard.members.remove(1);
    let (endpoint, dir) = (candidate.endpoint(), candidate.dir.clone());
    candidate.kill()?;
    drop(candidate); // removes its files
    if dir.exists() {
        return Err(Error::failed(format!(
            "cannot delete the files of {endpoint}: {} still exists",
            dir.display()
        )));
    }
    steps.end(format!("{endpoint} killed with SIGKILL, its files deleted; the writer continues"));
    Ok(endpoint)
}

/// Recovers as `backstop recover … --to latest --join` does.
async fn rebuild(
    app: &App,
    place: &DemoDir,
    newest: &BackupReport,
    steps: &mut DemoSteps<'_>,
) -> Result<RecoverReport> {
    steps.begin("rebuild it");
    let ending = EndingArgs { join: true, standalone: false, as_primary: false };
    let args = recovery(place, "rebuilt", "latest", ending)?;
    let report = recover::perform(app, &args).await?;
    if report.backup_id != newest.backup_id || !report.joined {
        let wrong = format!("backup {} was used instead of {}", report.backup_id, newest.backup_id);
        return Err(Error::failed(format!(
            "cannot rebuild the candidate: {wrong}, joined: {}",
            report.joined
        )));
    }
    steps.end(format!(
        "127.0.0.1:{} from backup {}, joined and caught up",
        report.server.port, report.backup_id
    ));
    Ok(report)
}

/// Returns the arguments of a recovery into a folder.
fn recovery(place: &DemoDir, into: &str, to: &str, ending: EndingArgs) -> Result<RecoverArgs> {
    let to = Some(to.parse().failed("cannot parse the moment")?);
    Ok(RecoverArgs {
        shard: configure::shard_name()?,
        target: TargetArgs { to, time_zone: None, backup: None, line: None },
        into: place.path(into),
        on_volume: false,
        volume_at: Vec::new(),
        ending,
        force_as_primary: None,
        port: None,
        listen: None,
        check: CheckArg::Full,
        plan: false,
        server_user: None,
        run_as_root: rustix::process::geteuid().is_root(),
        defaults_file: None,
        server_option: Vec::new(),
        accept_broken: Vec::new(),
        systemd: false,
        copy_login: false,
        events: EventsArg::Enable,
    })
}

/// Load of the writer.
const LOAD: Load = Load::Shop;

/// Returns a context that passes on everything the inner operations report, except their steps.
fn nested_context(ctx: &RunContext) -> RunContext {
    RunContext { reporter: Arc::new(steps::NestedReporter(ctx.reporter.clone())), ..ctx.clone() }
}
