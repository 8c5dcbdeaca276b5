//! Plan of an EBS snapshot, made before the lock is requested: instance, volumes, permission, kind
//! of freeze.

use std::collections::BTreeMap;

use backstop_adapters::mysql::connection::Connection;
use backstop_adapters::mysql::server_facts::{self, DataPath};
use backstop_adapters::mysql::tablespaces;
use backstop_policy::freeze_mode::{ModeChoice, choose_mode};
use backstop_policy::table_check::source_finding;
use backstop_types::backup::{BrokenTable, Lineage};
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::finding::{Finding, Severity};
use backstop_types::ids::{BackupId, Endpoint, ServerUuid};
use backstop_types::server::ServerVersion;
use backstop_types::topology::Role;

use super::ec2::{CreateRequest, EbsSnapshot, Ec2, FoundInstance};
use super::tags::SnapshotTags;
use super::volumes::{AttachedVolume, ChosenVolumes, choose_volumes};
use super::{EbsSnapshotSource, find_instance};

/// Everything that must be known before a snapshot is taken.
pub(crate) struct EbsPlan {
    pub(crate) server: ServerInfo,
    pub(crate) instance: FoundInstance,
    pub(crate) chosen: ChosenVolumes,
    pub(crate) attached: Vec<AttachedVolume>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) mode: Result<ModeChoice>,
    with_root: bool,
    without: Vec<String>,
    description: String,
}

/// Properties of the server that the plan depends on.
pub(crate) struct ServerInfo {
    pub(crate) uuid: ServerUuid,
    pub(crate) version: String,
    pub(crate) broken: Vec<BrokenTable>,
    paths: Vec<DataPath>,
    keeps_commit_order: bool,
}

/// Collects the plan, and asks EC2 if the request would be allowed, over the connection that is
/// used under the lock.
///
/// # Errors
/// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) if instance or volumes
/// cannot be determined; otherwise the error of the query that failed.
pub(crate) async fn plan(source: &EbsSnapshotSource, ec2: &Ec2) -> Result<EbsPlan> {
    let mut session = source.connector.connect(&source.endpoint).await?;
    let server = server(&mut session).await;
    session.close().await;
    let server = server?;
    let instance = find_instance::find_instance(ec2, &source.endpoint).await?;
    let attached = ec2.attached(&instance).await?;
    let chosen = choose_volumes(&instance.id, source.place.volume.as_ref(), &server.paths, &attached)?;
    let obstacles =
        ["an EBS snapshot is not readable from here, so the position is read under the lock".to_owned()];
    let mode = choose_mode(&source.freeze, &obstacles, source.role);
    let plan = EbsPlan {
        findings: findings(source, &server, &instance, &chosen, &mode),
        with_root: attached.iter().any(|volume| volume.is_root && chosen.ids.contains(&volume.id)),
        without: without(&attached, &chosen),
        description: format!("Backstop: MySQL of shard {} on {}", source.place.shard, source.endpoint),
        server,
        instance,
        chosen,
        attached,
        mode,
    };
    plan.rehearse(source, ec2).await?;
    Ok(plan)
}

impl EbsPlan {
    /// Returns the request to create the set.
    pub(crate) fn order<'a>(&'a self, tags: &'a BTreeMap<String, String>) -> CreateRequest<'a> {
        CreateRequest {
            instance: &self.instance.id,
            with_root: self.with_root,
            without: &self.without,
            description: &self.description,
            tags,
        }
    }

    /// Returns the ids of the volumes in the set.
    pub(crate) fn volumes(&self) -> Vec<&str> {
        self.chosen.ids.iter().map(String::as_str).collect()
    }

    /// Returns the lineage of the snapshots.
    pub(crate) fn lineage(&self) -> Lineage {
        Lineage {
            server_uuid: self.server.uuid,
            volume: format!("ebs:{}", self.volumes().join("+")),
            generation: None,
            mark: None,
        }
    }

    /// Returns the volumes of these snapshots as they are, in the order of the snapshots.
    pub(crate) fn volumes_of(&self, snapshots: &[EbsSnapshot]) -> Vec<EbsVolume> {
        let volume = |snapshot: &EbsSnapshot| {
            let attached = self.attached.iter().find(|volume| volume.id == snapshot.volume)?;
            Some(attached.facts(&snapshot.id))
        };
        snapshots.iter().filter_map(volume).collect()
    }

    /// Refuses if any finding is a problem; one message lists all of them.
    pub(crate) fn refuse_problems(&self, endpoint: &Endpoint) -> Result<()> {
        let problems = self.findings.iter().filter(|finding| finding.severity == Severity::Problem);
        let (what, todo): (Vec<_>, Vec<_>) =
            problems.map(|finding| (finding.what.as_str(), finding.todo.clone().unwrap_or_default())).unzip();
        if what.is_empty() {
            return Ok(());
        }
        Err(Error::refused(format!("cannot take a snapshot of {endpoint}: {}", what.join("; ")))
            .hint(todo.join("; ")))
    }

    /// Tries the request without effect, with tags like the real ones, since an IAM policy may
    /// require them.
    async fn rehearse(&self, source: &EbsSnapshotSource, ec2: &Ec2) -> Result<()> {
        let label = SnapshotTags {
            run: &BackupId::new(source.ctx.host.clock.now(), 0),
            shard: &source.place.shard,
            cluster: &source.place.cluster,
            gtids: &Default::default(),
            source: &source.endpoint,
            server: self.server.uuid,
            version: &self.server.version,
            set: self.chosen.ids.len(),
            repository: &source.place.repository,
            secret: source.place.secret.as_deref(),
            extra: &source.place.extra_tags,
        };
        ec2.rehearse(&self.order(&label.tags())).await
    }
}

async fn server(session: &mut Connection) -> Result<ServerInfo> {
    let doing = format!("cannot query the server {}", session.address());
    let uuid: String = session.one("SELECT @@server_uuid").await?;
    let version: String = session.one("SELECT @@version").await?;
    let mut keeps_commit_order = false;
    for name in ["replica_preserve_commit_order", "slave_preserve_commit_order"] {
        let value: Option<String> = server_facts::variable(session, name).await?;
        keeps_commit_order |= value.is_some_and(|value| matches!(value.as_str(), "ON" | "1"));
    }
    Ok(ServerInfo {
        uuid: uuid.parse().failed(doing)?,
        version,
        broken: tablespaces::broken_tables(session).await?,
        paths: server_facts::data_paths(session).await?,
        keeps_commit_order,
    })
}

fn without(attached: &[AttachedVolume], chosen: &ChosenVolumes) -> Vec<String> {
    let others = attached.iter().filter(|volume| !volume.is_root && !chosen.ids.contains(&volume.id));
    others.map(|volume| volume.id.clone()).collect()
}

fn findings(
    source: &EbsSnapshotSource,
    server: &ServerInfo,
    instance: &FoundInstance,
    chosen: &ChosenVolumes,
    mode: &Result<ModeChoice>,
) -> Vec<Finding> {
    let volumes = format!("{} runs on {}: {}", source.endpoint, instance.id, chosen.why);
    let mut findings = vec![Finding::ok("ebs-volumes", volumes), freeze(source, server, mode)];
    findings.extend(source_finding(&source.endpoint, &server.broken));
    findings
}

fn freeze(source: &EbsSnapshotSource, server: &ServerInfo, mode: &Result<ModeChoice>) -> Finding {
    match mode {
        Err(error) => Finding::problem("freeze", &error.message, error.hint.clone().unwrap_or_default()),
        Ok(_) if source.role != Role::Primary && deadlocks(server) => Finding::problem(
            "replica-commit-order",
            format!(
                "a lock is needed, and on version {} a read lock can deadlock with appliers that preserve the commit order",
                server.version
            ),
            "upgrade to 8.0.23 or later, or set replica_preserve_commit_order=OFF, or back up another member",
        ),
        Ok(_) => Finding::ok("freeze", "writes are held for the moment in which EC2 takes the snapshot"),
    }
}

/// True for versions on which the read lock can deadlock with appliers that preserve the commit
/// order.
fn deadlocks(server: &ServerInfo) -> bool {
    let old = server.version.parse::<ServerVersion>().is_ok_and(|version| !version.at_least(8, 0, 23));
    old && server.keeps_commit_order
}
