//! State of a shard's archive, for `status` and `check`.

use backstop_config::settings::ArchiveSettings;
use backstop_policy::stream_or_fork::{
    ArchiveHealthInputs, NEVER_RAN_CODE, SourceContext, SourceSettings, archive_findings,
    archive_rpo_seconds, source_findings,
};
use backstop_policy::topology::current_primary;
use backstop_repo::ArchiveReader;
use backstop_types::archive::ArchiverHeartbeat;
use backstop_types::error::Result;
use backstop_types::finding::{Finding, Severity};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ShardName;
use backstop_types::topology::{InstanceState, Member};
use chrono::{DateTime, Utc};

use super::config::Encryption;
use crate::ports::Topology;

/// Archive of a shard, with its settings.
#[derive(Clone)]
pub struct ShardArchive<'a> {
    /// Archive settings of the shard; `None`: it is not archived.
    pub settings: Option<&'a ArchiveSettings>,
    /// The archive.
    pub reader: ArchiveReader,
    /// Encryption of the stored segments.
    pub encryption: Encryption,
}

/// State of an archive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArchiveStatus {
    /// Seconds of the primary's commits that are not archived; `None`: unknown, or nothing is
    /// archived.
    pub rpo_seconds: Option<f64>,
    /// Findings about the archive.
    pub findings: Vec<Finding>,
}

/// Compares the archive of a shard with its primary, if the primary is known. Returns no findings
/// for a shard that is not archived.
///
/// # Errors
/// Fails if the repository cannot be read.
pub async fn archive_status(
    shard: &ShardName,
    archived: &ShardArchive<'_>,
    primary: Option<&InstanceState>,
    now: DateTime<Utc>,
) -> Result<ArchiveStatus> {
    if archived.settings.is_none() {
        return Ok(ArchiveStatus::default());
    }
    let (contents, alive) = tokio::try_join!(archived.reader.contents(), archived.reader.alive())?;
    let held = contents.current().and_then(|timeline| {
        let held = contents.held(timeline.number)?;
        let base = contents.history(timeline.number).first().map(|first| first.previous.clone());
        Some(base.into_iter().fold(held, |all: GtidSet, base| all.union(&base)))
    });
    // The archiver's heartbeat is some seconds old; the index is not.
    let newest = contents.segments.iter().filter_map(|segment| Some(segment.committed?.1)).max();
    let alive = alive.map(|alive| ArchiverHeartbeat { last_commit: alive.last_commit.max(newest), ..alive });
    let health = ArchiveHealthInputs {
        shard,
        alive: alive.as_ref(),
        held: held.as_ref(),
        timelines: &contents.timelines,
        primary: primary.map(|state| (&state.gtid_executed, &state.gtid_purged)),
        now,
    };
    Ok(ArchiveStatus { rpo_seconds: archive_rpo_seconds(&health), findings: archive_findings(&health) })
}

/// Returns all findings of `check` about a shard's archive.
///
/// # Errors
/// Fails if the repository cannot be read.
pub async fn check_archive(
    shard: &ShardName,
    archived: &ShardArchive<'_>,
    members: &[Member],
    topology: &dyn Topology,
    now: DateTime<Utc>,
) -> Result<Vec<Finding>> {
    let Some(settings) = archived.settings else { return Ok(vec![not_configured(shard)]) };
    let primary = current_primary(members).ok();
    let mut findings = archive_status(shard, archived, primary.map(|(_, state)| state), now).await?.findings;
    // The documented order is check, backup, archive: a missing archiver must not block the earlier
    // steps.
    for finding in findings.iter_mut().filter(|finding| finding.code == NEVER_RAN_CODE) {
        finding.severity = Severity::Warning;
    }
    let running =
        findings.iter().any(|finding| finding.code == "archiver-running" && finding.severity == Severity::Ok);
    if let Some((endpoint, state)) = primary {
        match topology.source_settings(endpoint).await {
            Ok(source) => {
                findings.extend(judge_archive(settings, &source, archived, members, state, running))
            }
            Err(error) => findings.push(Finding::warning(
                "archive-source-unknown",
                error.message,
                error.hint.unwrap_or_else(|| "repeat the check".to_owned()),
            )),
        }
    }
    Ok(findings)
}

fn judge_archive(
    settings: &ArchiveSettings,
    source: &SourceSettings,
    archived: &ShardArchive<'_>,
    members: &[Member],
    primary: &InstanceState,
    archiver_running: bool,
) -> Vec<Finding> {
    let others = || {
        members
            .iter()
            .filter_map(|member| Some((member, member.state.as_ref().ok()?)))
            .filter(|(_, state)| state.server_uuid != primary.server_uuid)
    };
    let around = SourceContext {
        repository_encrypted: archived.encryption == Encryption::On,
        archiver_running,
        other_replicas: others().filter(|(_, state)| state.semi_sync_replica).count() as u32,
        candidate_acknowledges: others()
            .find(|(member, _)| member.candidate)
            .map(|(_, state)| state.semi_sync_replica),
        candidate_read_only: others().any(|(member, state)| member.candidate && state.read_only),
        candidate_cannot_wait: others()
            .find(|(member, state)| member.candidate && !state.semi_sync_source_loaded)
            .map(|(member, _)| member.endpoint.clone()),
    };
    source_findings(settings, source, &around)
}

fn not_configured(shard: &ShardName) -> Finding {
    Finding::warning(
        "archive-not-configured",
        format!("shard {shard} is not archived: transactions between backups are lost with its servers"),
        format!("set shards.{shard}.archive = {{ from = \"primary\" }} and run `backstop archive {shard}`"),
    )
}
