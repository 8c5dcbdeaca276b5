//! The command `backstop schedule`.

use std::path::PathBuf;

use backstop_config::settings::{RepositoryUrl, ShardSettings};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};

use super::CommandOutcome;
use crate::app::App;
use crate::args::{GlobalArgs, ScheduleArgs};
use crate::output::Output;
use crate::systemd::{self, ScheduledRun};

/// Prints the service and the timer of a shard's schedule.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] without a schedule or a configuration file, and if a timer cannot
/// express the schedule.
pub fn run(args: &ScheduleArgs, global: &GlobalArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let shard = app.shard(&args.shard)?;
    let schedule = shard.schedule.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("shard {} has no schedule", args.shard))
            .hint(format!("set shards.{}.schedule, for example \"cron(55 23 * * ? *)\"", args.shard))
    })?;
    let file = app.file.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Usage, "cannot make a service: there is no configuration file")
            .hint("name one with --config")
    })?;
    let units = systemd::units(&ScheduledRun {
        shard: &args.shard,
        schedule,
        program: &std::env::current_exe().failed("cannot find this program")?,
        config: &std::fs::canonicalize(file).failed(format!("cannot find {}", file.display()))?,
        options: &options(global),
        writes: &writes(app, shard),
    })?;
    output.report(&units);
    Ok(CommandOutcome::Well)
}

/// Returns the options of the command line that the scheduled runs must repeat.
pub(super) fn options(global: &GlobalArgs) -> Vec<String> {
    let set = |(key, value, _): (String, String, String)| ["--set".to_owned(), format!("{key}={value}")];
    global.given().overrides.into_iter().flat_map(set).collect()
}

pub(super) fn writes(app: &App, shard: &ShardSettings) -> Vec<PathBuf> {
    let repository = match &app.settings.repository.url {
        RepositoryUrl::File { path } => Some(path.clone()),
        RepositoryUrl::S3(_) => None,
    };
    repository.into_iter().chain([shard.snapshot.work_dir.clone()]).collect()
}
