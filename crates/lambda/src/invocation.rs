//! Handles one invocation. The event of a backup names a secret, the secret a shard, and the shard
//! is backed up by the same story as everywhere. Events of EBS, and sweeps, end backups
//! ([`crate::completion`]).

#[cfg(test)]
mod frozen;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::source_settings::MysqlInspector;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_adapters::topology::{CANDIDATE_EXPIRED, Orchestrator, OrchestratorTarget};
use backstop_aws::backup_instances::Ec2BackupInstances;
use backstop_aws::client::AwsClient;
use backstop_aws::ebs::{EbsCatalog, EbsPlace, Timeouts};
use backstop_aws::read_secret;
use backstop_config::secret_entry::{self, SecretEntry};
use backstop_config::settings::{RepositoryUrl, TopologySettings, check_snapshot_tags, repository_id};
use backstop_engine::backup::{Backup, already_made, backup};
use backstop_engine::context::RunContext;
use backstop_engine::last_known_members::{LastKnownMembers, MEMBERS_LAST_KNOWN};
use backstop_engine::ports::Topology;
use backstop_engine::record_run;
use backstop_engine::report::{BackupOutcome, ErrorReport, VersionedReport};
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_host::Host;
use backstop_repo::Repository;
use backstop_types::create_repository::CreateRepository;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt as _};
use backstop_types::ids::ShardName;
use backstop_types::run_history::Operation;
use lambda_runtime::{Context, Diagnostic};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::completion_event::{CompletionBatch, is_sweep};
use crate::deadline::Deadline;
use crate::lambda_event::{CLEANUP_TIME, Invocation, time_until_last_freeze};
use crate::shard_access::{open_repository, secret_entry, variable};
use crate::time_limit::TimeLimitedSources;
use crate::{completion, logging, outcome};

/// Variable with the repository, if the secret does not name one.
const REPOSITORY_VARIABLE: &str = "BACKSTOP_REPOSITORY";
/// Variable that lets the first backup create the repository: `if-empty`.
const CREATE_VARIABLE: &str = "BACKSTOP_REPOSITORY_CREATE";
/// Variable with the id of the only accepted repository.
const REPOSITORY_ID_VARIABLE: &str = "BACKSTOP_REPOSITORY_ID";
/// Variable with tags of every snapshot, a JSON object.
const TAGS_VARIABLE: &str = "BACKSTOP_SNAPSHOT_TAGS";

/// Error that Lambda receives when an invocation fails.
#[derive(Debug)]
pub struct InvocationError(Error);

impl From<InvocationError> for Diagnostic {
    fn from(InvocationError(error): InvocationError) -> Self {
        let report = ErrorReport::from(&error);
        let hint = report.hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
        Self { error_type: report.error.to_owned(), error_message: format!("{}{hint}", report.message) }
    }
}

/// Returns the answer of one invocation: the output of `backup --json`.
///
/// # Errors
/// Returns the fault, with its kind as the type.
pub async fn handle(event: &Value, context: &Context) -> Result<Value, InvocationError> {
    let deadline = Deadline::new(context.deadline, logging::clock());
    let (stop, stopped) = watch::channel(false);
    let nears = deadline.clone();
    let alarm = tokio::spawn(async move {
        nears.nears(CLEANUP_TIME).await;
        stop.send_replace(true);
        // Keep the sender alive, so that later receivers are stopped too.
        std::future::pending::<()>().await;
    });
    let outcome = handle_event(event, &context.request_id, deadline, &logging::run_context(stopped)).await;
    alarm.abort();
    outcome.map_err(|error| InvocationError(log_fault(error, &context.request_id)))
}

async fn handle_event(event: &Value, request: &str, deadline: Deadline, ctx: &RunContext) -> Result<Value> {
    if let Some(batch) = CompletionBatch::parse(event) {
        return completion::complete_batch(&batch, ctx).await;
    }
    if is_sweep(event) {
        return completion::sweep(ctx).await;
    }
    let invocation = Invocation::parse(event)?;
    let occasion = invocation.occasion(request);
    tracing::info!(event = "invoked", secret = invocation.secret_id, occasion, request);
    let outcome = run(&invocation, &occasion, deadline, ctx).await?;
    outcome::log_outcome(&outcome, &occasion, request);
    serde_json::to_value(VersionedReport::new(&outcome)).failed("cannot write the result as JSON")
}

async fn run(
    invocation: &Invocation,
    occasion: &str,
    deadline: Deadline,
    ctx: &RunContext,
) -> Result<BackupOutcome> {
    let aws = AwsClient::connect(None).await?;
    let id = &invocation.secret_id;
    let elsewhere = variable(REPOSITORY_VARIABLE);
    let entry = secret_entry(&aws, id, elsewhere.as_deref());
    let entry = ctx.step("secret", ctx.unless_stopped(entry)).await?;
    let repository = ctx.unless_stopped(repository(&entry, &ctx.host)).await?;
    let reader = repository.reader(&entry.shard);
    let aws = aws.in_region(&entry.region);
    if let Some(made) = ctx.unless_stopped(already_made(&reader, Some(occasion), ctx)).await? {
        return Ok(BackupOutcome::Made(Box::new(made)));
    }
    let made = made(invocation, occasion, deadline, (&entry, aws, &repository), ctx);
    let summary = |outcome: &BackupOutcome| Some(outcome.summary());
    record_run::record_run((&repository, &entry.shard), Operation::Backup, ctx, made, summary).await
}

/// Backs up the shard of an entry.
async fn made(
    invocation: &Invocation,
    occasion: &str,
    deadline: Deadline,
    (entry, aws, repository): (&SecretEntry, AwsClient, &Repository),
    ctx: &RunContext,
) -> Result<BackupOutcome> {
    let (settings, connector) = (&entry.settings, connector(entry, &invocation.secret_id, ctx));
    let (topology, reader) = (topology(entry, connector.clone(), ctx)?, repository.reader(&entry.shard));
    let last_known = LastKnownMembers::new(&*topology, &reader, ctx);
    let schemas = MysqlInspector::new(connector.clone());
    let place = place(invocation, &deadline, (entry, aws.clone()), ctx)?;
    let catalog = EbsCatalog::new(aws, place.timeouts.clone(), ctx.clone());
    let access = InstanceAccess { connector, freeze: settings.freeze.clone(), ctx: ctx.clone() };
    let instances = Ec2BackupInstances { access, place };
    let bounded = TimeLimitedSources { instances, deadline, freeze: settings.freeze.clone() };
    let story = Backup {
        shard: &entry.shard,
        kind: invocation.kind,
        occasion: Some(occasion),
        full: false,
        topology: if settings.topology.allows_last_known() { &last_known } else { &*topology },
        rules: SourceChoiceRules::of(settings),
        instances: &bounded,
        schemas: &schemas,
        repository,
        volumes: Some(&catalog),
        ctx,
    };
    let made = backup(&story).await;
    log_findings(story.topology, &entry.shard);
    made
}

/// Returns the place of the snapshots. The function does not wait for EC2: it may take hours, and
/// the event of its end is handled.
fn place(
    invocation: &Invocation,
    deadline: &Deadline,
    (entry, aws): (&SecretEntry, AwsClient),
    ctx: &RunContext,
) -> Result<EbsPlace> {
    let settings = &entry.settings;
    let until = time_until_last_freeze(deadline.left(), &settings.freeze);
    let last_freeze = Some(ctx.host.clock.monotonic() + until);
    let mut extra_tags = extra_tags()?;
    extra_tags.extend(settings.snapshot.tags.clone());
    Ok(EbsPlace {
        aws,
        shard: entry.shard.clone(),
        cluster: settings.topology.cluster_name(&entry.shard),
        volume: settings.snapshot.volume.clone(),
        repository: entry.repository.to_string(),
        secret: Some(invocation.secret_id.clone()),
        extra_tags,
        timeouts: Timeouts { complete: Duration::ZERO, last_freeze, ..Timeouts::default() },
    })
}

/// Logs what concerns orchestrator: alarms count these events.
fn log_findings(topology: &dyn Topology, shard: &ShardName) {
    for finding in topology.findings() {
        let (shard, message, hint) = (shard.as_str(), &finding.what, finding.todo.as_deref());
        match &*finding.code {
            CANDIDATE_EXPIRED => tracing::warn!(event = "candidate_expired", shard, message, hint),
            MEMBERS_LAST_KNOWN => tracing::warn!(event = "members_last_known", shard, message, hint),
            _ => {}
        }
    }
}

/// Returns a connector that reads the secret again when a server refuses its password: a rotation
/// changes the server first, and the secret some seconds later.
fn connector(entry: &SecretEntry, id: &str, ctx: &RunContext) -> Connector {
    let id = id.to_owned();
    let read = move || secret_entry::credentials(read_secret(&id)?.expose_secret(), &id).map_err(Error::from);
    let credentials = entry.credentials.clone();
    Connector::of(Arc::new(SharedCredentials::starting_with(credentials, read, ctx.clone())))
}

async fn repository(entry: &SecretEntry, host: &Host) -> Result<Repository> {
    if let RepositoryUrl::File { .. } = entry.repository {
        let message = format!(
            "cannot open repository {}: the disk of a Lambda function is lost with it",
            entry.repository
        );
        return Err(Error::new(ErrorKind::Usage, message).hint("write s3://bucket/prefix"));
    }
    let (create, id) = (create()?, id()?);
    open_repository(&entry.repository.to_string(), Some(entry), (create, id), host).await
}

/// Returns the tags that the account's owner adds to every snapshot.
fn extra_tags() -> Result<BTreeMap<String, String>> {
    let Some(text) = variable(TAGS_VARIABLE) else { return Ok(BTreeMap::new()) };
    let usage = |why: String| Error::new(ErrorKind::Usage, format!("{TAGS_VARIABLE}: {why}"));
    let tags = serde_json::from_str(&text).map_err(|_| {
        usage("it is not a JSON object of texts".to_owned()).hint("write {\"CostCenter\": \"…\"}")
    })?;
    check_snapshot_tags(&tags).map_err(usage)?;
    Ok(tags)
}

fn create() -> Result<CreateRepository> {
    match variable(CREATE_VARIABLE).as_deref() {
        None | Some("never") => Ok(CreateRepository::Never),
        Some("if-empty") => Ok(CreateRepository::IfEmpty),
        Some(other) => Err(Error::new(
            ErrorKind::Usage,
            format!("{CREATE_VARIABLE}: `{other}` is not one of never, if-empty"),
        )),
    }
}

fn id() -> Result<Option<Uuid>> {
    let read = |text: String| repository_id(&text).context(ErrorKind::Usage, REPOSITORY_ID_VARIABLE);
    variable(REPOSITORY_ID_VARIABLE).map(read).transpose()
}

fn topology(entry: &SecretEntry, connector: Connector, ctx: &RunContext) -> Result<Box<dyn Topology>> {
    let TopologySettings::Orchestrator { urls, cluster, .. } = &entry.settings.topology else {
        return Err(Error::failed("cannot find the shard's members: the secret names no orchestrator"));
    };
    let (access, max_lag) = (&entry.credentials.orchestrator, entry.settings.source.max_lag);
    let asked = OrchestratorTarget { urls, cluster, access, max_lag };
    Ok(Box::new(Orchestrator::new(&asked, connector, ctx.clone())?))
}

/// Logs the fault. A run that ended by its deadline was not cancelled by a user.
fn log_fault(failure: Error, request: &str) -> Error {
    let failure = match failure.kind {
        ErrorKind::Interrupted => Error::failed("cannot back up the shard: the function timed out")
            .hint("raise the function's timeout; its log shows which step took long"),
        _ => failure,
    };
    let report = ErrorReport::from(&failure);
    let (error, message, hint) = (report.error, &report.message, report.hint.as_deref());
    tracing::error!(event = "backup_failed", error, message, hint, request);
    failure
}
