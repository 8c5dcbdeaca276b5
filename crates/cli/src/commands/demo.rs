//! `backstop demo`.

use backstop_engine::world::World;
use backstop_model::fault::{Fault, Result};

use super::Ended;
use crate::args::DemoArgs;
use crate::output::Output;

/// Shows the main job on a shard of its own.
///
/// # Errors
/// When a step fails. Commits that were lost are a result: exit code 1.
pub async fn run(_args: &DemoArgs, _world: World, _output: &Output) -> Result<Ended> {
    Err(Fault::failed("demo is not built yet"))
}
