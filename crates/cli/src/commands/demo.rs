//! The command `backstop demo`.

use backstop_engine::context::RunContext;
use backstop_types::error::Result;

use super::CommandOutcome;
use crate::args::{DemoArgs, GlobalArgs};
use crate::demo::{Demo, demo};
use crate::output::Output;

/// Shows the main job on a shard that it creates.
///
/// # Errors
/// Returns an error if a step fails. Commits that were lost are a result: exit code 1.
pub async fn run(
    args: &DemoArgs,
    global: &GlobalArgs,
    ctx: RunContext,
    output: &Output,
) -> Result<CommandOutcome> {
    let wanted = Demo { keep: args.keep, dir: args.dir.clone(), server: global.mysql_server.clone() };
    let done = demo(&wanted, &ctx).await?;
    output.report(&done);
    Ok(if done.report.ok { CommandOutcome::Well } else { CommandOutcome::Attention })
}
