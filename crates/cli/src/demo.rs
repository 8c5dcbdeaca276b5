//! The demonstration: the main job on a real shard of its own, with checks that can fail.

mod compare;
mod configure;
mod disaster;
mod kept;
mod place;
mod prepare;
mod purge;
mod steps;

use std::path::PathBuf;
use std::sync::Arc;

use backstop_engine::world::World;
use backstop_lab::{Ledger, Load, Shard};
use backstop_model::backup::BackupKind;
use backstop_model::fault::{Context, Fault, Result};
use backstop_model::ids::Endpoint;
use backstop_model::report::{BackupReport, DemoReport, DroppedTable, RecoverReport, TotalLoss};

use crate::args::{CheckArg, EndingArgs, EventsArg, RecoverArgs, TargetArgs};
use crate::commands::{backup, recover};
use crate::compose::App;
use crate::human;

pub use kept::{DemoDone, Kept};
use place::Place;
use prepare::Prepared;
use steps::Steps;

/// What the demonstration's shard is called.
const SHARD: &str = "shop";
/// Commits between two steps, so that each has something to keep.
const SOME: u64 = 300;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Demo {
    /// Leaves everything there, to look around.
    pub keep: bool,
    /// Folder to work in.
    pub dir: Option<PathBuf>,
    /// The server program, if one was named.
    pub server: Option<String>,
}

/// Runs the demonstration. Whatever happens, its servers are killed and its folder is removed, unless it is to be kept.
///
/// # Errors
/// When a step fails. A difference that is found at the end is a result, not an error.
pub async fn demo(demo: &Demo, world: &World) -> Result<DemoDone> {
    let place = Place::take(demo.dir.as_deref(), world)?;
    let done = world.unless_stopped(story(demo, &place, world)).await;
    match done {
        Ok(done) if demo.keep => place.keep().map(|()| done),
        done => done,
    }
}

async fn story(demo: &Demo, place: &Place, world: &World) -> Result<DemoDone> {
    let mut steps = Steps::new(world);
    let Prepared { servers, program, template } = prepare::server(demo, place, &mut steps).await?;
    let mut shard = prepare::shard(&servers, &template, place, &mut steps).await?;
    let ledger = prepare::writer(&shard, &mut steps).await?;
    let app = configure::app(demo, place, &program, &shard, &mut steps)?;

    let (first, first_gap) = back_up(&app, &ledger, &mut steps, "back up").await?;
    let rotated = purge::rotate(&shard).await?;
    ledger.wait_for_more(SOME).await?;
    let (second, second_gap) = back_up(&app, &ledger, &mut steps, "back up again").await?;
    ledger.wait_for_more(SOME).await?;
    purge::purge(&shard, &servers, &template, place, &rotated, &second, &mut steps).await?;

    let lost = lose(&mut shard, &mut steps)?;
    ledger.wait_for_more(SOME).await?;
    let recovered = rebuild(&app, place, &second, &mut steps).await?;
    let compared = compare::compare(&shard, ledger, &recovered, &mut steps).await?;

    // What is kept to look around is a shard that lives.
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
    let kept = shard.map(|shard| kept::keep(place, &program, shard, &lost)).transpose()?;
    Ok(DemoDone::new(report, kept))
}

/// With the archive: a dropped table, then the loss of everything.
async fn disaster(
    app: &App,
    shard: Shard,
    place: &Place,
    steps: &mut Steps<'_>,
) -> Result<(DroppedTable, TotalLoss)> {
    let archiver = disaster::Archiver::start(app, &shard, place, steps).await?;
    let ledger = disaster::writer(&shard).await?;
    let dropped = disaster::drop_table(app, &shard, &ledger, place, steps).await?;
    let loss = disaster::lose_everything(app, shard, archiver, ledger, place, steps).await?;
    Ok((dropped, loss))
}

/// A backup as `backstop backup` makes it, while the writer goes on; and the longest time in which the primary
/// acknowledged no commit, in milliseconds.
async fn back_up(
    app: &App,
    ledger: &Ledger,
    steps: &mut Steps<'_>,
    name: &'static str,
) -> Result<(BackupReport, f64)> {
    steps.begin(name);
    let begun = ledger.now();
    let report = backup::perform(app, &configure::shard_name()?, BackupKind::OnDemand, false).await?;
    let gap = ledger.longest_gap(begun, ledger.now()).as_secs_f64() * 1000.0;
    let kind = if report.parent.is_some() { "increment" } else { "full" };
    steps.end(format!(
        "{kind}, from {} while it is written to: {} of {} stored; longest gap in commits {}",
        report.source.endpoint,
        human::bytes(report.sizes.stored_bytes),
        human::bytes(report.sizes.data_bytes),
        human::millis(gap),
    ));
    Ok((report, gap))
}

/// The candidate dies, and its files with it.
fn lose(shard: &mut Shard, steps: &mut Steps<'_>) -> Result<Endpoint> {
    steps.begin("lose the candidate");
    let candidate = shard.members.remove(1);
    let (endpoint, dir) = (candidate.endpoint(), candidate.dir.clone());
    candidate.kill()?;
    drop(candidate); // removes its files
    if dir.exists() {
        return Err(Fault::failed(format!(
            "delete the files of {endpoint}: {} is still there",
            dir.display()
        )));
    }
    steps.end(format!("{endpoint} killed with SIGKILL, its files deleted; the writer goes on"));
    Ok(endpoint)
}

/// A recovery as `backstop recover … --to latest --join` makes it.
async fn rebuild(
    app: &App,
    place: &Place,
    newest: &BackupReport,
    steps: &mut Steps<'_>,
) -> Result<RecoverReport> {
    steps.begin("rebuild it");
    let ending = EndingArgs { join: true, standalone: false, as_primary: false };
    let args = recovery(place, "rebuilt", "latest", ending)?;
    let report = recover::perform(app, &args).await?;
    if report.backup_id != newest.backup_id || !report.joined {
        let wrong = format!("it came from {} instead of {}", report.backup_id, newest.backup_id);
        return Err(Fault::failed(format!("rebuild the candidate: {wrong}, joined: {}", report.joined)));
    }
    steps.end(format!(
        "127.0.0.1:{} from backup {}, joined and caught up",
        report.server.port, report.backup_id
    ));
    Ok(report)
}

/// The arguments of a recovery into a folder.
fn recovery(place: &Place, into: &str, to: &str, ending: EndingArgs) -> Result<RecoverArgs> {
    let to = Some(to.parse().failed("name the moment")?);
    Ok(RecoverArgs {
        shard: configure::shard_name()?,
        target: TargetArgs { to, time_zone: None, backup: None, line: None },
        into: place.path(into),
        on_volume: false,
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

/// The writer's load.
const LOAD: Load = Load::Shop;

/// Everything the inner stories say goes on, but their steps are not the demonstration's.
fn inner(world: &World) -> World {
    World { reporter: Arc::new(steps::Inner(world.reporter.clone())), ..world.clone() }
}
