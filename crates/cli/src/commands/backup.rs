//! `backstop backup`.

use backstop_engine::backup::{self, Backup};
use backstop_engine::choose::{Rules, choose};
use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::runs;
use backstop_model::backup::BackupKind;
use backstop_model::fault::Result;
use backstop_model::ids::ShardName;
use backstop_model::report::BackupReport;
use backstop_model::runs::Operation;
use backstop_model::settings::ProviderWish;
use backstop_repo::Repository;

use super::{Ended, locking};
use crate::args::{BackupArgs, KindArg};
use crate::compose::App;
use crate::output::Output;

/// Backs up a shard and shows the backup.
///
/// # Errors
/// As [`perform`].
pub async fn run(args: &BackupArgs, app: &App, output: &Output) -> Result<Ended> {
    let kind = match args.kind {
        KindArg::Scheduled => BackupKind::Scheduled,
        KindArg::OnDemand => BackupKind::OnDemand,
    };
    output.report(&perform(app, &args.shard, kind, args.full).await?);
    Ok(Ended::Well)
}

/// Backs up a shard: chooses the source by the shard's rules, then runs the story.
///
/// # Errors
/// As [`backup::backup`]; when no member may be backed up.
pub async fn perform(app: &App, shard: &ShardName, kind: BackupKind, full: bool) -> Result<BackupReport> {
    app.shard(shard)?;
    let repository = app.world.unless_stopped(app.repository_or_new()).await?;
    let made = made(app, &repository, shard, kind, full);
    let id = |report: &BackupReport| Some(format!("backup {}", report.backup_id));
    runs::kept((&repository, shard), Operation::Backup, &app.world, made, id).await
}

async fn made(
    app: &App,
    repository: &Repository,
    shard: &ShardName,
    kind: BackupKind,
    full: bool,
) -> Result<BackupReport> {
    let settings = app.shard(shard)?;
    let topology = app.topology(settings)?;
    let instances = app.instances(shard, settings, repository).await?;
    let rules = Rules {
        source: &settings.source,
        on_primary: settings.freeze.on_primary,
        locking: locking(settings),
    };
    let choosing = app.world.step("choose", choose(&app.world, &*topology, rules));
    let choice = app.world.unless_stopped(choosing).await?;
    app.world.reporter.remark(&format!("backing up {}: {}", choice.endpoint, choice.reason));
    let volumes = app.volumes(shard);
    let in_ebs = settings.snapshot.provider == ProviderWish::Ebs;
    let story = Backup {
        shard,
        kind,
        occasion: None,
        full,
        choice: &choice,
        instances: &*instances,
        schemas: &app.primaries(settings)?,
        repository,
        volumes: in_ebs.then_some(&volumes as &dyn VolumeSnapshots),
        world: &app.world,
    };
    backup::backup(&story).await
}
