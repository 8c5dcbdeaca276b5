//! The command `backstop shard`.

use backstop_engine::adopt::{self, Adopt};
use backstop_types::error::Result;

use super::CommandOutcome;
use crate::app::App;
use crate::args::{ShardArgs, ShardCommand};
use crate::output::Output;

/// Assigns a shard's name to the history that its members have now.
///
/// # Errors
/// As [`adopt::adopt`].
pub async fn run(args: &ShardArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let ShardCommand::Adopt(args) = &args.command;
    let topology = app.topology(app.shard(&args.shard)?)?;
    let repository = app.ctx.unless_stopped(app.repository()).await?;
    let story = Adopt { shard: &args.shard, topology: &*topology, repository: &repository, ctx: &app.ctx };
    output.report(&adopt::adopt(&story).await?);
    Ok(CommandOutcome::Well)
}
