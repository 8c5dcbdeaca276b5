//! The command `backstop check`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use backstop_adapters::mysql::server_tls;
use backstop_config::settings::RepositoryUrl;
use backstop_engine::check::{self, Check};
use backstop_engine::report::{CheckReport, ShardCheck};
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_policy::carried_settings::Certificates;
use backstop_repo::Repository;
use backstop_types::create_repository::CreateRepository;
use backstop_types::error::{Error, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::ShardName;

use super::{CommandOutcome, check_account, check_fix};
use crate::app::App;
use crate::args::CheckArgs;
use crate::output::Output;
use crate::systemd::active_schedule;

/// Checks that shards can be backed up and recovered; on request, fixes the findings that can be
/// fixed.
///
/// # Errors
/// Returns an error if nothing could be checked. Problems that were found are a result: exit code
/// 1.
pub async fn run(args: &CheckArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    if args.aws {
        return Box::pin(check_account::run(args, app, output)).await;
    }
    let mut report = checked(args, app).await?;
    if args.fix && check_fix::offer_fixes(args, app, &report, output).await? {
        report = checked(args, app).await?;
    }
    output.report(&report);
    let absent = report.findings.iter().any(|finding| finding.code == NO_REPOSITORY);
    Ok(match report.ok {
        true => CommandOutcome::Well,
        false if absent => CommandOutcome::Absent,
        false => CommandOutcome::Attention,
    })
}

/// Code of the finding that no repository exists.
const NO_REPOSITORY: &str = "no-repository";

/// Checks that the repository exists, and that the configuration cannot mistake another one for it.
fn place(app: &App, repository: &Repository) -> Finding {
    let settings = &app.settings.repository;
    let url = &settings.url;
    match (repository.exists(), repository.id(), settings.id) {
        (false, ..) if settings.create == CreateRepository::IfEmpty && settings.id.is_none() => {
            Finding::ok("no-repository-yet", format!("the first backup makes the repository {url}"))
        }
        (false, ..) => Finding::problem(
            NO_REPOSITORY,
            format!("there is no repository at {url}"),
            "run `backstop init` to create it; if it existed, check that its volume is mounted",
        ),
        (true, Some(id), None) => Finding::warning(
            "repository-not-named",
            format!("the configuration accepts any repository at {url}, not only this one, {id}"),
            format!("add to [repository]: id = \"{id}\""),
        ),
        (true, Some(id), Some(_)) => {
            Finding::ok("repository-named", format!("the repository is {id}, as configured"))
        }
        (true, None, _) => Finding::problem(
            "repository-root",
            format!("the root object of the repository {url} is lost: nothing can be written to it"),
            "restore the object `backstop` from a copy of the repository",
        ),
    }
}

async fn checked(args: &CheckArgs, app: &App) -> Result<CheckReport> {
    let names = app.shards(args.shard.as_ref())?;
    let repository = app.ctx.unless_stopped(app.repository_if_any()).await?;
    let mut findings = vec![place(app, &repository)];
    if repository.exists() {
        findings.extend(app.ctx.unless_stopped(async { Ok(writable(&repository).await) }).await?);
        findings.extend(app.ctx.unless_stopped(async { Ok(kept(&repository).await) }).await?);
    }
    findings.extend(readable_by_others(app));
    if names.is_empty() {
        let todo = "add a table [shards.NAME] to the configuration";
        findings.push(Finding::problem("no-shard", "no shard is configured", todo));
    }
    let mut shards = Vec::new();
    for shard in names {
        app.ctx.reporter.step("check");
        shards.push(one(app, &repository, shard).await?);
    }
    Ok(CheckReport::new(findings, shards))
}

/// Reports a store that lacks the guarantees that keep runs apart.
async fn writable(repository: &Repository) -> Option<Finding> {
    let error = repository.probe().await.err()?;
    let todo = error.hint.unwrap_or_else(|| "correct the error, then run `backstop check` again".to_owned());
    Some(Finding::problem("repository-not-writable", error.message, todo))
}

/// Reports a bucket with Object Lock: it accepts backups, and removes nothing before its time.
/// [`writable`] reports errors of the store.
async fn kept(repository: &Repository) -> Option<Finding> {
    let mode = repository.object_lock().await.ok()??;
    Some(Finding::warning(
        "repository-object-lock",
        format!(
            "the repository's bucket retains every object (Object Lock, {mode}): objects that `prune` removes and \
             overwritten heartbeats stay as noncurrent versions until their retention ends, and cost storage"
        ),
        "keep the default retention short, and add a lifecycle rule that removes noncurrent versions",
    ))
}

/// Warns of a repository that others can read: it holds everything that the database does.
fn readable_by_others(app: &App) -> Option<Finding> {
    let RepositoryUrl::File { path } = &app.settings.repository.url else { return None };
    let open = |path: &Path| Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o077 != 0);
    (open(path)? && open(&path.join("shards"))?).then(|| {
        let what = format!("other users of this host can read {}", path.display());
        let todo = format!("run `chmod -R go= {}`", path.display());
        Finding::warning("repository-readable-by-others", what, todo)
    })
}

async fn one(app: &App, repository: &Repository, shard: ShardName) -> Result<ShardCheck> {
    let settings = app.shard(&shard)?;
    let (topology, instances) =
        match (app.topology(settings), app.backup_instances(&shard, settings, repository).await) {
            (Ok(topology), Ok(instances)) => (topology, instances),
            (Err(error), _) | (_, Err(error)) => {
                return Ok(ShardCheck { shard, coverage: None, findings: vec![unreadable(&error)] });
            }
        };
    let story = Check {
        shard: &shard,
        rules: SourceChoiceRules::of(settings),
        schedule: settings.schedule.as_ref(),
        topology: &*topology,
        instances: &*instances,
        mysqld: &app.mysqld(),
        reader: &repository.reader(&shard),
        certificates: if settings.tls.is_some() { Certificates::Given } else { Certificates::OfItsOwn },
        volumes: &app.volumes(&shard),
        archived: app.shard_archive(settings, repository.archive(&shard)),
        schemas: &app.inspector(settings)?,
        ctx: &app.ctx,
    };
    let mut checked = check::check(&story).await?;
    checked
        .findings
        .extend(settings.tls.as_ref().and_then(|tls| server_tls::check(tls).err()).map(certificate));
    checked.findings.extend(active_schedule(&shard, settings.schedule.as_ref()).await);
    Ok(checked)
}

fn certificate(error: Error) -> Finding {
    let todo = error.hint.unwrap_or_else(|| "correct `[recovery.tls]`".to_owned());
    Finding::warning(
        "recovery-tls-unusable",
        format!("a recovery on this host would be refused: {}", error.message),
        todo,
    )
}

fn unreadable(error: &Error) -> Finding {
    let todo = error.hint.clone().unwrap_or_else(|| "correct the configuration".to_owned());
    Finding::problem("credentials", error.message.clone(), todo)
}
