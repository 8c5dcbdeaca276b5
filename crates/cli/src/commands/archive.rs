//! The command `backstop archive`.

use std::sync::Arc;

use backstop_binlog::TcpDial;
use backstop_config::settings::{RepositoryUrl, ShardSettings};
use backstop_engine::archive::{self, ArchiveUntil, ArchiverConfig, ServerAccess};
use backstop_engine::disk::HostDisk;
use backstop_engine::shard_dir;
use backstop_repo::Repository;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::ids::ShardName;

use super::CommandOutcome;
use super::schedule::{options, writes};
use crate::app::App;
use crate::args::{ArchiveArgs, GlobalArgs};
use crate::output::Output;
use crate::systemd::archiver_unit;

/// Folder, within the folder of a shard of a repository, for transactions that are not archived
/// yet.
const SPOOL_DIR: &str = "spool";

/// Archives a shard's binlog until it is stopped.
///
/// # Errors
/// As [`archive::archive`]; [`ErrorKind::Usage`] if the shard is not configured to be archived.
/// Transactions that were lost to the archive in between are a result: exit code 1.
pub async fn run(
    args: &ArchiveArgs,
    global: &GlobalArgs,
    app: &App,
    output: &Output,
) -> Result<CommandOutcome> {
    let settings = app.shard(&args.shard)?;
    if args.systemd {
        output.report(&unit(args, global, app, settings)?);
        return Ok(CommandOutcome::Well);
    }
    let archived = settings.archive.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("shard {} is not configured to be archived", args.shard))
            .hint(format!("set shards.{}.archive = {{ from = \"primary\" }}", args.shard))
    })?;
    // The checks before the start wait for a rotated password. The archiver tries again by itself.
    let first = app.shared_credentials(settings)?;
    let credentials = Arc::new(first.without_waits());
    let topology = app.topology_of(settings, &credentials)?;
    let access = ServerAccess { credentials: &credentials, dial: &TcpDial };
    let repository = app.ctx.unless_stopped(app.repository_or_new()).await?;
    let work_dir = &settings.snapshot.work_dir;
    let folder = |id| shard_dir::shard_dir(work_dir, &args.shard, id);
    let hold = |id| shard_dir::lock_dir(&folder(id), "archive", &format!("archive shard {}", args.shard));
    // The lock is taken before the claim, which would supersede an archiver of this host that only
    // sleeps.
    let early = repository.id().map(hold).transpose()?;
    let known = repository.id().map(|id| folder(id).join(SPOOL_DIR));
    let (seen, asked) = (app.topology(settings)?, ServerAccess { credentials: &first, dial: &TcpDial });
    archive::preflight(archived, &*seen, asked, app.encryption(), &HostDisk, known.as_deref(), &app.ctx)
        .await?;
    let claim = app.ctx.step("claim", repository.acquire_archive_lease(&args.shard));
    let store = Arc::new(app.ctx.unless_stopped(claim).await?);
    let id = repository.id().ok_or_else(|| {
        Error::new(ErrorKind::Damaged, "cannot determine the repository's id: its root object is lost")
            .hint("restore the object `backstop` from a copy of the repository")
    })?;
    let _hold = match early {
        Some(hold) => hold,
        None => hold(id)?,
    };
    let report = archive::archive(ArchiverConfig {
        shard: &args.shard,
        settings: archived,
        topology: &*topology,
        access,
        store: Arc::clone(&store),
        encryption: app.encryption(),
        name: &name(&args.shard, &repository, &app.settings.repository.url),
        disk: Arc::new(HostDisk),
        spool: folder(id).join(SPOOL_DIR),
        old_spool: Some(shard_dir::old_shard_dir(work_dir, &args.shard).join(SPOOL_DIR))
            .filter(|dir| dir.is_dir()),
        until: if args.until_caught_up { ArchiveUntil::CaughtUp } else { ArchiveUntil::Stopped },
        ctx: &app.ctx,
    })
    .await?;
    if let Some(store) = Arc::into_inner(store) {
        store.release().await?;
    }
    output.report(&report);
    Ok(if report.is_well() { CommandOutcome::Well } else { CommandOutcome::Attention })
}

/// Returns the name by which the archive identifies itself to its source: the repository's id,
/// since two hosts may have two repositories at one address. A repository whose root object is lost
/// is named by its address.
fn name(shard: &ShardName, repository: &Repository, url: &RepositoryUrl) -> String {
    match repository.id() {
        Some(id) => format!("{shard} {id}"),
        None => format!("{shard} {}", address(url)),
    }
}

fn address(url: &RepositoryUrl) -> String {
    match url {
        RepositoryUrl::File { path } => path.display().to_string(),
        RepositoryUrl::S3(s3) => {
            format!("{} {} {}", s3.endpoint.as_deref().unwrap_or_default(), s3.bucket, s3.prefix)
        }
    }
}

fn unit(
    args: &ArchiveArgs,
    global: &GlobalArgs,
    app: &App,
    settings: &ShardSettings,
) -> Result<crate::systemd::ArchiverUnit> {
    let file = app.file.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Usage, "cannot make a service: there is no configuration file")
            .hint("name one with --config")
    })?;
    Ok(archiver_unit(
        &args.shard,
        &std::env::current_exe().failed("cannot find this program")?,
        &std::fs::canonicalize(file).failed(format!("cannot find {}", file.display()))?,
        &options(global),
        &writes(app, settings),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_engine::archive::ReplicaIdentity;
    use backstop_host::Host;
    use backstop_repo::Location;

    use super::*;

    #[tokio::test]
    async fn repositories_at_one_address_have_separate_archivers() {
        let (shard, url): (ShardName, _) =
            ("orders".parse().unwrap(), RepositoryUrl::File { path: "/srv/backstop".into() });
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut seen = Vec::new();
        for dir in &dirs {
            let location = Location::new(format!("file://{}", dir.path().display()));
            let (made, _) = Repository::init(&location, None, Host::system()).await.unwrap();
            let again = Repository::open(&location, None, Host::system()).await.unwrap();
            let identity = |repository| ReplicaIdentity::of(&name(&shard, repository, &url), &[]);
            assert_eq!(identity(&made), identity(&again), "an archiver that is started again is the same");
            seen.push(identity(&made));
        }
        assert!(seen[0].uuid != seen[1].uuid && seen[0].server_id != seen[1].server_id);
    }
}
