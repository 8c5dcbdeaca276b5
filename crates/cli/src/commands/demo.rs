//! `backstop demo`.

use backstop_engine::world::World;
use backstop_model::fault::Result;

use super::Ended;
use crate::args::{DemoArgs, Global};
use crate::demo::{Demo, demo};
use crate::output::Output;

/// Shows the main job on a shard of its own.
///
/// # Errors
/// When a step fails. Commits that were lost are a result: exit code 1.
pub async fn run(args: &DemoArgs, global: &Global, world: World, output: &Output) -> Result<Ended> {
    let wanted = Demo { keep: args.keep, dir: args.dir.clone(), server: global.mysql_server.clone() };
    let done = demo(&wanted, &world).await?;
    output.report(&done);
    Ok(if done.report.ok { Ended::Well } else { Ended::Attention })
}
