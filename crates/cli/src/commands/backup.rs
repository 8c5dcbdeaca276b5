//! The command `backstop backup`.

use backstop_config::settings::ProviderSetting;
use backstop_engine::backup::{self, Backup};
use backstop_engine::last_known_members::LastKnownMembers;
use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::record_run;
use backstop_engine::report::BackupOutcome;
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_repo::Repository;
use backstop_types::backup::BackupKind;
use backstop_types::error::Result;
use backstop_types::ids::ShardName;
use backstop_types::run_history::Operation;

use super::CommandOutcome;
use crate::app::App;
use crate::args::{BackupArgs, KindArg};
use crate::output::Output;

/// Backs up a shard and shows the backup.
///
/// # Errors
/// As [`perform`].
pub async fn run(args: &BackupArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let kind = match args.kind {
        KindArg::Scheduled => BackupKind::Scheduled,
        KindArg::OnDemand => BackupKind::OnDemand,
    };
    output.report(&perform(app, &args.shard, kind, args.full).await?);
    Ok(CommandOutcome::Well)
}

/// Backs up a shard.
///
/// # Errors
/// As [`backup::backup`].
pub async fn perform(app: &App, shard: &ShardName, kind: BackupKind, full: bool) -> Result<BackupOutcome> {
    app.shard(shard)?;
    let repository = app.ctx.unless_stopped(app.repository_or_new()).await?;
    let made = made(app, &repository, shard, kind, full);
    let summary = |outcome: &BackupOutcome| Some(outcome.summary());
    record_run::record_run((&repository, shard), Operation::Backup, &app.ctx, made, summary).await
}

async fn made(
    app: &App,
    repository: &Repository,
    shard: &ShardName,
    kind: BackupKind,
    full: bool,
) -> Result<BackupOutcome> {
    let settings = app.shard(shard)?;
    let (topology, reader) = (app.topology(settings)?, repository.reader(shard));
    let last_known = LastKnownMembers::new(&*topology, &reader, &app.ctx);
    let instances = app.backup_instances(shard, settings, repository).await?;
    let volumes = app.volumes(shard);
    let in_ebs = settings.snapshot.provider == ProviderSetting::Ebs;
    let story = Backup {
        shard,
        kind,
        occasion: None,
        full,
        topology: if settings.topology.allows_last_known() { &last_known } else { &*topology },
        rules: SourceChoiceRules::of(settings),
        instances: &*instances,
        schemas: &app.inspector(settings)?,
        repository,
        volumes: in_ebs.then_some(&volumes as &dyn VolumeSnapshots),
        ctx: &app.ctx,
    };
    backup::backup(&story).await
}
