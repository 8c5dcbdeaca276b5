//! One invocation: the event names a secret, the secret a shard, and the shard is backed up by the same story as everywhere.

#[cfg(test)]
mod frozen;

use backstop_adapters::mysql::connect::Connector;
use backstop_adapters::mysql::source::Primaries;
use backstop_adapters::topology::{Asked, Orchestrator};
use backstop_aws::connect::Aws;
use backstop_aws::ebs::{EbsShelf, Waits};
use backstop_aws::instances::Ec2Instances;
use backstop_aws::secrets;
use backstop_engine::backup::{Backup, already_made, backup};
use backstop_engine::choose::{Rules, choose};
use backstop_engine::ports::Topology;
use backstop_engine::runs;
use backstop_engine::world::World;
use backstop_model::entry::ShardEntry;
use backstop_model::fault::{Context as _, Fault, Kind, Result};
use backstop_model::invocation::{CLEANING, Invocation};
use backstop_model::report::{BackupReport, FaultReport, Versioned};
use backstop_model::runs::Operation;
use backstop_model::settings::{CreateRepository, RepositoryUrl, TopologySettings, repository_id};
use backstop_model::topology::Locking;
use backstop_repo::{Location, RepoKey, Repository, S3Access};
use lambda_runtime::{Context, Diagnostic};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::bounded::Bounded;
use crate::deadline::Deadline;
use crate::{narrate, outcome};

/// Where backups are kept if the secret does not say.
const REPOSITORY: &str = "BACKSTOP_REPOSITORY";
/// Whether the first backup makes it: `if-empty`.
const CREATE: &str = "BACKSTOP_REPOSITORY_CREATE";
/// The only repository that is accepted there.
const ID: &str = "BACKSTOP_REPOSITORY_ID";

/// What Lambda is told when an invocation fails.
#[derive(Debug)]
pub struct Failed(Fault);

impl From<Failed> for Diagnostic {
    fn from(Failed(fault): Failed) -> Self {
        let report = FaultReport::from(&fault);
        let hint = report.hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
        Self { error_type: report.error.to_owned(), error_message: format!("{}{hint}", report.message) }
    }
}

/// Answers one invocation: what `backup --json` prints.
///
/// # Errors
/// With the kind of the fault as its type.
pub async fn answer(event: &Value, context: &Context) -> Result<Value, Failed> {
    let deadline = Deadline::new(context.deadline, narrate::clock());
    let (stop, stopped) = watch::channel(false);
    let nears = deadline.clone();
    let alarm = tokio::spawn(async move {
        nears.nears(CLEANING).await;
        stop.send_replace(true);
        // Who asks later is told too.
        std::future::pending::<()>().await;
    });
    let outcome = answered(event, &context.request_id, deadline, &narrate::world(stopped)).await;
    alarm.abort();
    outcome.map_err(|fault| Failed(told(fault, &context.request_id)))
}

async fn answered(event: &Value, request: &str, deadline: Deadline, world: &World) -> Result<Value> {
    let invocation = Invocation::parse(event)?;
    let occasion = invocation.occasion(request);
    tracing::info!(event = "invoked", secret = invocation.secret_id, occasion, request);
    let report = run(&invocation, (&occasion, request), deadline, world).await?;
    serde_json::to_value(Versioned::new(&report)).failed("write the result as JSON")
}

async fn run(
    invocation: &Invocation,
    (occasion, request): (&str, &str),
    deadline: Deadline,
    world: &World,
) -> Result<BackupReport> {
    let (entry, aws) = world.step("secret", world.unless_stopped(entry(&invocation.secret_id))).await?;
    let repository = world.unless_stopped(repository(&entry)).await?;
    let reader = repository.reader(&entry.shard);
    let aws = aws.in_region(&entry.region);
    let shelf = EbsShelf::new(aws.clone(), Waits::default(), world.clone());
    if let Some(made) = world.unless_stopped(already_made(&reader, Some(occasion), world)).await? {
        outcome::note_down(&made, &reader, &shelf, (occasion, request), world).await;
        return Ok(made);
    }
    let made = made(invocation, occasion, deadline, (&entry, aws, &repository, &shelf), world);
    let id = |report: &BackupReport| Some(format!("backup {}", report.backup_id));
    let report = runs::kept((&repository, &entry.shard), Operation::Backup, world, made, id).await?;
    outcome::note_down(&report, &reader, &shelf, (occasion, request), world).await;
    Ok(report)
}

/// Chooses the source and backs it up.
async fn made(
    invocation: &Invocation,
    occasion: &str,
    deadline: Deadline,
    (entry, aws, repository, shelf): (&ShardEntry, Aws, &Repository, &EbsShelf),
    world: &World,
) -> Result<BackupReport> {
    let (settings, connector) = (&entry.settings, Connector::new(&entry.credentials));
    let topology = topology(entry, connector.clone(), world)?;
    let rules = Rules {
        source: &settings.source,
        on_primary: settings.freeze.on_primary,
        locking: Locking::Possible,
    };
    let choosing = world.step("choose", choose(world, &*topology, rules));
    let choice = world.unless_stopped(choosing).await?;
    world.reporter.remark(&format!("backing up {}: {}", choice.endpoint, choice.reason));
    let schemas = Primaries::new(connector.clone());
    let instances = Ec2Instances {
        aws,
        connector,
        freeze: settings.freeze.clone(),
        shard: entry.shard.clone(),
        cluster: cluster(entry),
        volume: settings.snapshot.volume.clone(),
        waits: Waits::default(),
        world: world.clone(),
    };
    let bounded = Bounded { instances, deadline, freeze: settings.freeze.clone() };
    let story = Backup {
        shard: &entry.shard,
        kind: invocation.kind,
        occasion: Some(occasion),
        full: false,
        choice: &choice,
        instances: &bounded,
        schemas: &schemas,
        repository,
        volumes: Some(shelf),
        world,
    };
    backup(&story).await
}

/// Read in every invocation, so that a password that was rotated is known.
async fn entry(id: &str) -> Result<(ShardEntry, Aws)> {
    let aws = Aws::connect(None).await?;
    let text = secrets::read(&aws, id).await?;
    let elsewhere = variable(REPOSITORY);
    Ok((ShardEntry::parse(text.expose_secret(), id, elsewhere.as_deref())?, aws))
}

async fn repository(entry: &ShardEntry) -> Result<Repository> {
    if let RepositoryUrl::File { .. } = entry.repository {
        let message = format!("open repository {}: a function's disk does not outlive it", entry.repository);
        return Err(Fault::new(Kind::Usage, message).hint("write s3://bucket/prefix"));
    }
    // Lambda's own region is the bucket's, as it is for every program there.
    let known = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = known.is_none().then(|| entry.region.clone());
    let s3 = S3Access { endpoint: variable("AWS_ENDPOINT_URL_S3"), region, ..S3Access::default() };
    let key = entry.encryption_key.as_ref().map(RepoKey::parse).transpose()?;
    let (create, id) = (create()?, id()?);
    Repository::open(&Location { url: entry.repository.to_string(), s3, create, id }, key.as_ref()).await
}

fn create() -> Result<CreateRepository> {
    match variable(CREATE).as_deref() {
        None | Some("never") => Ok(CreateRepository::Never),
        Some("if-empty") => Ok(CreateRepository::IfEmpty),
        Some(other) => {
            Err(Fault::new(Kind::Usage, format!("{CREATE}: `{other}` is not one of never, if-empty")))
        }
    }
}

fn id() -> Result<Option<Uuid>> {
    let read = |text: String| repository_id(&text).fault(Kind::Usage, ID);
    variable(ID).map(read).transpose()
}

fn topology(entry: &ShardEntry, connector: Connector, world: &World) -> Result<Box<dyn Topology>> {
    let TopologySettings::Orchestrator { urls, cluster } = &entry.settings.topology else {
        return Err(Fault::failed("find the shard's members: the secret names no orchestrator"));
    };
    let (access, max_lag) = (&entry.credentials.orchestrator, entry.settings.source.max_lag);
    let asked = Asked { urls, cluster, access, max_lag };
    Ok(Box::new(Orchestrator::new(&asked, connector, world.clone())?))
}

fn cluster(entry: &ShardEntry) -> String {
    match &entry.settings.topology {
        TopologySettings::Orchestrator { cluster, .. } => cluster.clone(),
        TopologySettings::Members { .. } => entry.shard.to_string(),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Notes the fault down. That the time was up is no wish of a user's.
fn told(fault: Fault, request: &str) -> Fault {
    let fault = match fault.kind {
        Kind::Interrupted => Fault::failed("back up the shard: the function's time was up")
            .hint("give the function a longer time-out, and see in its log which step took so long"),
        _ => fault,
    };
    let report = FaultReport::from(&fault);
    let (error, message, hint) = (report.error, &report.message, report.hint.as_deref());
    tracing::error!(event = "backup_failed", error, message, hint, request);
    fault
}
