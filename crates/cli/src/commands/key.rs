//! The command `backstop key`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use backstop_config::settings::SecretRef;
use backstop_engine::context::RunContext;
use backstop_engine::report::{KeyChange, KeyCheckReport, KeyReport, KeyState};
use backstop_repo::{ExportedKey, KeyCopies, RepoKey, Repository};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use secrecy::SecretString;

use super::CommandOutcome;
use crate::app::App;
use crate::args::{GlobalArgs, KeyArgs, KeyCommand, KeyFileArgs, KeyRemoveArgs};
use crate::output::Output;
use crate::secrets;

/// Lists, adds or removes the keys that open the repository.
///
/// # Errors
/// The errors of [`Repository`]'s methods for keys; an error if a file cannot be read, or exists.
pub async fn run(
    args: &KeyArgs,
    global: &GlobalArgs,
    ctx: RunContext,
    output: &Output,
) -> Result<CommandOutcome> {
    let run = ctx.clone();
    let app = || super::app(global, ctx);
    let report = match &args.command {
        // The first key is made before there is a configuration.
        KeyCommand::Generate(args) => generate(args, &run)?,
        KeyCommand::Check => {
            let app = app()?;
            let keys = async { app.repository().await?.key_copies().await };
            let report = check(run.unless_stopped(keys).await?);
            output.report(&report);
            return Ok(if report.ok { CommandOutcome::Well } else { CommandOutcome::Attention });
        }
        KeyCommand::Add(args) => run.unless_stopped(add(args, &app()?)).await?,
        KeyCommand::Rotate(args) => run.unless_stopped(rotate(args, &app()?)).await?,
        KeyCommand::Remove(args) => run.unless_stopped(remove(args, &app()?)).await?,
        KeyCommand::Export(args) => run.unless_stopped(export(args, &app()?)).await?,
        KeyCommand::Import(args) => run.unless_stopped(import(args, &app()?)).await?,
    };
    output.report(&report);
    Ok(CommandOutcome::Well)
}

async fn add(args: &KeyFileArgs, app: &App) -> Result<KeyReport> {
    let id = app.repository().await?.add_key(&key_in(&args.file)?).await?;
    Ok(KeyReport { change: KeyChange::Added, id: Some(id), file: Some(args.file.clone()), removed: None })
}

async fn rotate(args: &KeyFileArgs, app: &App) -> Result<KeyReport> {
    let (old, id) = app.repository().await?.rotate_key(&key_in(&args.file)?).await?;
    let removed = (old != id).then_some(old);
    Ok(KeyReport { change: KeyChange::Rotated, id: Some(id), file: Some(args.file.clone()), removed })
}

async fn remove(args: &KeyRemoveArgs, app: &App) -> Result<KeyReport> {
    app.repository().await?.remove_key(&args.id).await?;
    Ok(KeyReport { change: KeyChange::Removed, id: None, file: None, removed: Some(args.id.clone()) })
}

async fn export(args: &KeyFileArgs, app: &App) -> Result<KeyReport> {
    let export = app.repository().await?.export_key().await?;
    let text = serde_json::to_string_pretty(&export).failed("cannot write the export")?;
    write_new(&args.file, &text)?;
    let (id, file) = (Some(export.key_id), Some(args.file.clone()));
    Ok(KeyReport { change: KeyChange::Exported, id, file, removed: None })
}

/// Writes a new key. It is never shown, so that no terminal or log keeps it.
fn generate(args: &KeyFileArgs, ctx: &RunContext) -> Result<KeyReport> {
    let key: [u8; 32] = ctx.host.random.bytes()?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    write_new(&args.file, &text)?;
    Ok(KeyReport { change: KeyChange::Generated, id: None, file: Some(args.file.clone()), removed: None })
}

async fn import(args: &KeyFileArgs, app: &App) -> Result<KeyReport> {
    let what = format!("cannot read the export {}", args.file.display());
    let text = std::fs::read_to_string(&args.file).context(ErrorKind::Usage, &what)?;
    let export: ExportedKey = serde_json::from_str(&text).context(ErrorKind::Usage, &what)?;
    let (location, key) = app.place()?;
    let Some(key) = key else {
        return Err(Error::new(ErrorKind::Usage, "no key is configured")
            .hint("set `repository.encryption_key` to the key that was exported"));
    };
    Repository::import_key(&location, &key, &export, app.ctx.host.clone()).await?;
    let id = Some(export.key_id);
    Ok(KeyReport { change: KeyChange::Imported, id, file: Some(args.file.clone()), removed: None })
}

fn check(keys: Vec<KeyCopies>) -> KeyCheckReport {
    let state = |key: KeyCopies| KeyState {
        id: key.id,
        configured: key.is_own,
        copies: key.intact.len(),
        lost: key.lost.into_iter().map(|(_, wrong)| wrong).collect(),
    };
    let keys: Vec<KeyState> = keys.into_iter().map(state).collect();
    KeyCheckReport { ok: keys.iter().all(|key| key.lost.is_empty()), keys }
}

/// Reads a key as the configuration would, with the same demands on the file's owner and mode.
fn key_in(file: &Path) -> Result<RepoKey> {
    let file =
        std::path::absolute(file).context(ErrorKind::Usage, format!("cannot use {}", file.display()))?;
    let text: SecretString = secrets::resolve(&SecretRef::File(file))?;
    RepoKey::parse(&text)
}

/// Writes a file that only its owner can read. Overwrites none.
fn write_new(file: &Path, text: &str) -> Result<()> {
    let what = format!("cannot write {}", file.display());
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    let mut opened = opened.context(ErrorKind::Usage, &what)?;
    writeln!(opened, "{text}").failed(&what)?;
    opened.sync_all().failed(&what)
}
