//! The command `backstop init`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use backstop_adapters::topology::discover;
use backstop_config::settings::{RepositoryUrl, SecretRef};
use backstop_engine::context::RunContext;
use backstop_engine::report::{DraftReport, InitReport};
use backstop_policy::config_draft::ConfigDraft;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::ids::{Endpoint, ShardName};

use super::CommandOutcome;
use crate::app::{App, DEFAULT_FILES};
use crate::args::{GlobalArgs, InitArgs};
use crate::output::Output;
use crate::secrets;

/// URL of a draft's repository, unless another one is named.
const DEFAULT_REPOSITORY_URL: &str = "file:///var/lib/backstop/repository";

/// Creates the repository, or reports that it exists.
///
/// # Errors
/// As [`App::make_repository`].
pub async fn run(app: &App, output: &Output) -> Result<CommandOutcome> {
    let (repository, made) = app.ctx.unless_stopped(app.make_repository()).await?;
    let settings = &app.settings.repository;
    output.report(&InitReport {
        repository: repository.id(),
        url: settings.url.to_string(),
        made,
        encrypted: settings.encryption_key.is_some(),
        pinned: settings.id.is_some(),
    });
    Ok(CommandOutcome::Well)
}

/// Arguments of `init --from`.
pub struct DraftRequest<'a> {
    from: &'a Endpoint,
    shard: &'a ShardName,
    credentials: &'a Path,
}

/// Returns the arguments of `init --from`, if a draft is requested.
pub fn draft(args: &InitArgs) -> Option<DraftRequest<'_>> {
    let (from, shard) = (args.from.as_ref()?, args.shard.as_ref()?);
    Some(DraftRequest { from, shard, credentials: args.credentials.as_deref()? })
}

/// Writes a configuration for the shard of a running server. Changes no server, and overwrites no
/// file.
///
/// # Errors
/// Returns an error if the file exists, the credentials cannot be read, or the server cannot be
/// queried.
pub async fn configure(
    asked: &DraftRequest<'_>,
    global: &GlobalArgs,
    ctx: &RunContext,
    output: &Output,
) -> Result<CommandOutcome> {
    let file = global.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILES[0]));
    if file.exists() {
        return Err(taken(&file));
    }
    let repository = global.repository.as_deref().unwrap_or(DEFAULT_REPOSITORY_URL);
    RepositoryUrl::parse(repository).context(ErrorKind::Usage, "--repository")?;
    let credentials = std::path::absolute(asked.credentials).failed("cannot find the credentials file")?;
    let login = secrets::credentials(&SecretRef::File(credentials.clone()))?;
    let found = ctx.step("discover", discover(&login, asked.from));
    let found = ctx.unless_stopped(found).await?;
    let (members, unknown) = (&found.members[..], &found.unknown[..]);
    let draft = ConfigDraft { shard: asked.shard, repository, credentials: &credentials, members, unknown };
    write(&file, &draft.text())?;
    output.report(&DraftReport {
        file,
        shard: asked.shard.clone(),
        members: draft.order().into_iter().cloned().collect(),
        candidate: draft.candidate(),
        unknown: found.unknown.clone(),
    });
    Ok(CommandOutcome::Well)
}

fn write(file: &Path, text: &str) -> Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    match created.and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(taken(file)),
        written => written.failed(format_args!("cannot write {}", file.display())),
    }
}

fn taken(file: &Path) -> Error {
    Error::refused(format!("cannot write {}: the file exists already", file.display()))
        .hint("name another file with --config, or move this one away")
}
