//! `backstop shard`.

use backstop_engine::adopt::{self, Adopt};
use backstop_model::fault::Result;

use super::Ended;
use crate::args::{ShardArgs, ShardCommand};
use crate::compose::App;
use crate::output::Output;

/// Gives a shard's name to the history that its members have now.
///
/// # Errors
/// As [`adopt::adopt`].
pub async fn run(args: &ShardArgs, app: &App, output: &Output) -> Result<Ended> {
    let ShardCommand::Adopt(args) = &args.command;
    let topology = app.topology(app.shard(&args.shard)?)?;
    let repository = app.world.unless_stopped(app.repository()).await?;
    let story =
        Adopt { shard: &args.shard, topology: &*topology, repository: &repository, world: &app.world };
    output.report(&adopt::adopt(&story).await?);
    Ok(Ended::Well)
}
