//! The commands, one file each.

pub mod archive;
pub mod backup;
pub mod backups;
pub mod check;
mod check_account;
mod check_fix;
pub mod completions;
pub mod demo;
pub mod find;
pub mod init;
mod key;
pub mod plan;
mod planned_recovery;
pub mod prune;
pub mod recover;
pub mod recover_ebs;
pub mod repair;
pub mod rescue;
pub mod schedule;
pub mod shard;
pub mod status;
mod time_args;
pub mod verify;

use backstop_engine::context::RunContext;
use backstop_repo::Repository;
use backstop_types::error::{Error, Result};
use backstop_types::ids::ShardName;

use crate::app::{self, App};
use crate::args::{Command, CommandLine, GlobalArgs};
use crate::output::Output;

pub use crate::exit_code::CommandOutcome;

/// Runs a command to its end.
///
/// # Errors
/// Returns the error that kept the command from its work.
pub async fn run(line: &CommandLine, ctx: RunContext, output: &Output) -> Result<CommandOutcome> {
    let global = &line.global;
    match &line.command {
        Command::Demo(args) => demo::run(args, global, ctx, output).await,
        Command::Init(args) => match init::draft(args) {
            Some(draft) => init::configure(&draft, global, &ctx, output).await,
            None => init::run(&app(global, ctx)?, output).await,
        },
        Command::Check(args) => check::run(args, &app(global, ctx)?, output).await,
        Command::Backup(args) => backup::run(args, &app(global, ctx)?, output).await,
        Command::Backups(args) => backups::run(args, &app(global, ctx)?, output).await,
        Command::Archive(args) => archive::run(args, global, &app(global, ctx)?, output).await,
        Command::Plan(args) => plan::run(args, &app(global, ctx)?, output).await,
        Command::Recover(args) => recover::run(args, &app(global, ctx)?, output).await,
        Command::Repair(args) => repair::run(args, &app(global, ctx)?, output).await,
        Command::Rescue(args) => rescue::run(args, global, ctx, output).await,
        Command::Find(args) => find::run(args, &app(global, ctx)?, output).await,
        Command::Prune(args) => prune::run(args, &app(global, ctx)?, output).await,
        Command::Verify(args) => verify::run(args, &app(global, ctx)?, output).await,
        Command::Status(args) => status::run(args, &app(global, ctx)?, output).await,
        Command::Key(args) => key::run(args, global, ctx, output).await,
        Command::Shard(args) => shard::run(args, &app(global, ctx)?, output).await,
        Command::Schedule(args) => schedule::run(args, global, &app(global, ctx)?, output),
        Command::Completions(args) => completions::run(args, output),
    }
}

fn app(global: &GlobalArgs, ctx: RunContext) -> Result<App> {
    let (settings, file) = app::load_settings(&global.given())?;
    Ok(App::new(settings, file, ctx))
}

/// Refuses a shard that is neither configured nor stored. A shard need not be configured to be read
/// and recovered alone: it is enough that something of it is stored.
async fn known_or_stored(app: &App, repository: &Repository, shard: &ShardName) -> Result<()> {
    let Err(unknown) = app.shard(shard) else { return Ok(()) };
    if repository.shards().await?.contains(shard) {
        return Ok(());
    }
    Err(Error { message: format!("{}, and the repository stores nothing of it", unknown.message), ..unknown })
}
