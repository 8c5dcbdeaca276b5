//! The command `backstop status`.

use backstop_engine::report::{ShardStatus, StatusReport};
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_engine::status::{self, StatusQuery};
use backstop_repo::Repository;
use backstop_types::error::Result;
use backstop_types::ids::ShardName;

use super::CommandOutcome;
use crate::app::App;
use crate::args::StatusArgs;
use crate::output::Output;

/// Shows the state of every shard.
///
/// # Errors
/// Returns an error if the repository cannot be read. A state that needs attention is a result:
/// exit code 1.
pub async fn run(args: &StatusArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let names = app.shards(args.shard.as_ref())?;
    let repository = app.ctx.unless_stopped(app.repository()).await?;
    let mut shards = Vec::new();
    for shard in names {
        shards.push(one(app, &repository, &shard).await?);
    }
    let report = StatusReport::new(shards);
    output.report(&report);
    Ok(if report.ok { CommandOutcome::Well } else { CommandOutcome::Attention })
}

async fn one(app: &App, repository: &Repository, shard: &ShardName) -> Result<ShardStatus> {
    let settings = app.shard(shard)?;
    let topology = app.topology(settings);
    let story = StatusQuery {
        shard,
        schedule: settings.schedule.as_ref(),
        rules: SourceChoiceRules::of(settings),
        repository,
        reader: &repository.reader(shard),
        volumes: &app.volumes(shard),
        topology: topology.as_deref(),
        archived: app.shard_archive(settings, repository.archive(shard)),
        ctx: &app.ctx,
    };
    status::status(&story).await
}
