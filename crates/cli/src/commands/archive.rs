//! `backstop archive`.

use std::sync::Arc;

use backstop_engine::archive::{self, Archiving, Until};
use backstop_engine::host;
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::ids::ShardName;
use backstop_model::settings::{RepositoryUrl, ShardSettings};
use backstop_repo::Repository;

use super::Ended;
use super::schedule::{options, writes};
use crate::args::{ArchiveArgs, Global};
use crate::compose::App;
use crate::output::Output;
use crate::systemd::archiver_unit;

/// What is not archived yet, in the folder of a shard of a repository.
const SPOOL: &str = "spool";

/// Archives a shard's binlog until it is stopped.
///
/// # Errors
/// As [`archive::archive`]; [`Kind::Usage`] if the shard is not configured to be archived. Transactions that were lost to the
/// archive meanwhile are a result: exit code 1.
pub async fn run(args: &ArchiveArgs, global: &Global, app: &App, output: &Output) -> Result<Ended> {
    let settings = app.shard(&args.shard)?;
    if args.systemd {
        output.report(&unit(args, global, app, settings)?);
        return Ok(Ended::Well);
    }
    let archived = settings.archive.as_ref().ok_or_else(|| {
        Fault::new(Kind::Usage, format!("shard {} is not configured to be archived", args.shard))
            .hint(format!("set shards.{}.archive = {{ from = \"primary\" }}", args.shard))
    })?;
    let access = app.access(settings)?;
    let topology = app.topology_of(settings, &access)?;
    let repository = app.world.unless_stopped(app.repository_or_new()).await?;
    let work_dir = &settings.snapshot.work_dir;
    let folder = |id| host::folder(work_dir, &args.shard, id);
    let hold = |id| host::hold(&folder(id), "archive", &format!("archive shard {}", args.shard));
    // Held before the claim, which would supersede an archiver of this host that only sleeps.
    let early = repository.id().map(hold).transpose()?;
    let known = repository.id().map(|id| folder(id).join(SPOOL));
    archive::admit(archived, &*topology, &access, app.encryption(), known.as_deref(), &app.world).await?;
    let claim = app.world.step("claim", repository.claim_archive(&args.shard));
    let store = Arc::new(app.world.unless_stopped(claim).await?);
    let id = repository.id().ok_or_else(|| {
        Fault::new(Kind::Damaged, "find the repository's id: its root object is lost")
            .hint("bring the object `backstop` back from a copy of the repository")
    })?;
    let _hold = match early {
        Some(hold) => hold,
        None => hold(id)?,
    };
    let report = archive::archive(&Archiving {
        shard: &args.shard,
        settings: archived,
        topology: &*topology,
        access: &access,
        store: Arc::clone(&store),
        encryption: app.encryption(),
        name: &name(&args.shard, &repository, &app.settings.repository.url),
        spool: folder(id).join(SPOOL),
        old_spool: Some(host::old_folder(work_dir, &args.shard).join(SPOOL)).filter(|dir| dir.is_dir()),
        until: if args.until_caught_up { Until::CaughtUp } else { Until::Stopped },
        world: &app.world,
    })
    .await?;
    if let Some(store) = Arc::into_inner(store) {
        store.release().await?;
    }
    output.report(&report);
    Ok(if report.is_well() { Ended::Well } else { Ended::Attention })
}

/// Names the archive to its source: by the repository itself, since two hosts may have two of them at one address. Only one whose
/// root object is lost goes by its address.
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
    global: &Global,
    app: &App,
    settings: &ShardSettings,
) -> Result<crate::systemd::ArchiverUnit> {
    let file = app.file.as_ref().ok_or_else(|| {
        Fault::new(Kind::Usage, "a service needs a configuration file").hint("name one with --config")
    })?;
    Ok(archiver_unit(
        &args.shard,
        &std::env::current_exe().failed("find this program")?,
        &std::fs::canonicalize(file).failed(format!("find {}", file.display()))?,
        &options(global),
        &writes(app, settings),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_engine::archive::Identity;
    use backstop_repo::Location;

    use super::*;

    #[tokio::test]
    async fn two_repositories_at_one_address_have_two_archivers() {
        let (shard, url): (ShardName, _) =
            ("orders".parse().unwrap(), RepositoryUrl::File { path: "/srv/backstop".into() });
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut seen = Vec::new();
        for dir in &dirs {
            let location = Location::new(format!("file://{}", dir.path().display()));
            let (made, _) = Repository::init(&location, None).await.unwrap();
            let again = Repository::open(&location, None).await.unwrap();
            let identity = |repository| Identity::of(&name(&shard, repository, &url), &[]);
            assert_eq!(identity(&made), identity(&again), "an archiver that is started again is the same");
            seen.push(identity(&made));
        }
        assert!(seen[0].uuid != seen[1].uuid && seen[0].server_id != seen[1].server_id);
    }
}
