//! Reports of commands: one value from which text output, JSON and logs are derived.
//!
//! Field names are a contract (`docs/commands.md`); new fields may be added, none renamed.

mod account;
mod adopt;
mod archive;
mod backup_outcome;
mod error;
mod find;
mod init;
mod keys;
mod repair;
mod status;
mod verify;

use std::collections::BTreeSet;

use backstop_binlog::FoundTransaction;
use backstop_policy::coverage::Coverage;
use backstop_policy::plan::{Ending, LatestAge};
use backstop_policy::retention::RetentionVote;
use backstop_policy::scheduled_events::EventsReport;
use backstop_types::archive::Archive;
use backstop_types::backup::{BackupKind, BackupSource, BackupState, Sizes, VolumeState};
use backstop_types::finding::{Finding, Severity};
use backstop_types::freeze::FreezeReport;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};
use serde::Serialize;

pub use account::AccountReport;
pub use adopt::AdoptReport;
pub use archive::{ArchiveReport, ArchivedFork, ArchivedGap};
pub use backup_outcome::{BackupOutcome, SkippedBackup};
pub use error::ErrorReport;
pub use find::{FindReport, RecoveryAdvice, SearchedPart};
pub use init::{DraftReport, InitReport};
pub use keys::{KeyChange, KeyCheckReport, KeyReport, KeyState};
pub use repair::{RepairReport, RepairedIndex, RepairedLog, UnusableManifest};
pub use status::{MemberStatus, ShardStatus, StatusReport, rpo_seconds};
pub use verify::{
    DamagedObject, LostKeyCopy, ShardVerification, UncheckedObject, VerifiedBackup, VerifyReport,
    VerifyVerdict,
};

/// The version of all JSON that commands print.
pub const REPORT_VERSION: u32 = 1;

/// A report as `--json` prints it: its fields, and `version`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionedReport<'a, T: Serialize> {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The report.
    #[serde(flatten)]
    pub report: &'a T,
}

impl<'a, T: Serialize> VersionedReport<'a, T> {
    /// The report in the current version.
    pub fn new(report: &'a T) -> Self {
        Self { version: REPORT_VERSION, report }
    }
}

/// `backup --json`, and each row of `backups --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupReport {
    /// Its id.
    pub backup_id: BackupId,
    /// The shard.
    pub shard: ShardName,
    /// Its trigger: scheduled or on demand.
    pub kind: BackupKind,
    /// The instance it was taken from.
    pub source: BackupSource,
    /// Reason for choosing that instance, and for rejecting the others.
    pub source_reason: String,
    /// The GTID set it holds.
    pub gtid_executed: GtidSet,
    /// Result of the freeze.
    pub freeze: FreezeReport,
    /// The backup it builds on; `None` for a full one.
    pub parent: Option<BackupId>,
    /// Size of its data and the cost of storing it.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// The moment of the snapshot.
    pub taken_at: DateTime<Utc>,
    /// Duration of the run.
    pub seconds: f64,
    /// The EBS snapshots that hold its data; absent if the data is in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebs: Option<EbsSnapshots>,
    /// Reasons to doubt that it holds the shard's data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl BackupReport {
    /// True if a finding casts doubt on whether it holds the shard's data.
    pub fn is_doubtful(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Problem)
    }
}

/// Snapshots of EBS volumes that hold one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EbsSnapshots {
    /// Their region.
    pub region: String,
    /// One for each volume of the set.
    pub snapshot_ids: Vec<String>,
    /// Their state when last queried; `None`: not queried.
    pub state: Option<VolumeState>,
}

/// `backups --from-tags --json`: backups read from the tags of EBS snapshots, without a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaggedReport {
    /// The shard.
    pub shard: ShardName,
    /// Its backups as named by the tags, newest first. Holds only those whose lock was proven.
    pub from_tags: Vec<TaggedBackup>,
}

/// A backup as described by the tags of its EBS snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaggedBackup {
    /// Its id.
    pub backup_id: BackupId,
    /// Start of its first snapshot, by EC2's clock.
    pub taken_at: DateTime<Utc>,
    /// The instance it was taken from, `host:port`.
    pub source: String,
    /// The tag `Cluster-name`.
    pub cluster_name: String,
    /// The tag `GTID`: the whole set, or its location if it is longer than a tag.
    pub gtid: String,
    /// The EBS snapshots that hold its data.
    pub ebs: EbsSnapshots,
}

/// `recover --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoverReport {
    /// The shard.
    pub shard: ShardName,
    /// The backup that was restored.
    pub backup_id: BackupId,
    /// The target as the operator gave it.
    pub target: String,
    /// The server's `gtid_executed` at handover.
    pub gtid_executed: GtidSet,
    /// Transactions applied from the archive.
    pub transactions_replayed: u64,
    /// Address and files of the recovered server.
    pub server: RecoveredServer,
    /// True if it follows the shard's primary and has caught up.
    pub joined: bool,
    /// The ending: `standalone`, `join` or `as-primary`.
    pub ending: Ending,
    /// The checks that ran, each with its outcome.
    pub checks: Vec<Finding>,
    /// Durations of the steps.
    pub seconds: RecoverSeconds,
    /// Steps left for the operator.
    pub next: Vec<String>,
    /// The events of a new primary and their resulting states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsReport>,
    /// Age of the archive, if the target was `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestAge>,
}

/// A server that a recovery left running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveredServer {
    /// Host on which it listens.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Unix socket.
    pub socket: String,
    /// Data directory.
    pub datadir: String,
    /// Option file for clients, if the recovery left an account for reading a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_file: Option<String>,
}

/// Durations of the steps of a recovery, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RecoverSeconds {
    /// Writing the files.
    pub materialise: f64,
    /// Start of the server, including crash recovery.
    pub start: f64,
    /// Replay from the archive.
    pub replay: f64,
    /// Joining the shard and catching up.
    pub join: f64,
    /// The whole recovery.
    pub total: f64,
}

/// `backups --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupsReport {
    /// The shard.
    pub shard: ShardName,
    /// Its backups, newest first; with `--latest` only the first.
    pub backups: Vec<BackupRow>,
}

/// One backup in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupRow {
    /// The report of the run that made it.
    #[serde(flatten)]
    pub report: BackupReport,
    /// Its present state.
    pub state: BackupState,
    /// Damage that a verification found and that is not repaired yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// `prune --json`, for one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// The shard.
    pub shard: ShardName,
    /// True if it was carried out, false if this is only the plan.
    pub applied: bool,
    /// Every backup, newest first, with the decision on it.
    pub backups: Vec<RetentionVote>,
    /// Objects that were removed.
    pub removed_objects: u64,
    /// Bytes that were freed.
    pub freed_bytes: u64,
    /// EBS snapshots that were deleted.
    pub removed_snapshots: Vec<String>,
    /// The result for the archive.
    pub archive: ArchivePruned,
    /// Deleted backups whose data still exists.
    pub condemned: Vec<CondemnedBackup>,
    /// Backups whose deletion was undone.
    pub undone: Vec<BackupId>,
}

/// A deleted backup whose data still exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CondemnedBackup {
    /// Its id.
    pub backup_id: BackupId,
    /// When it was deleted, by the store's clock.
    pub deleted_at: DateTime<Utc>,
    /// End of the period in which the deletion can be undone.
    pub until: DateTime<Utc>,
}

/// Result of pruning an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArchivePruned {
    /// Segments removed: older than `retention.binlogs`, and needed by no younger backup.
    pub forgotten: u64,
    /// Segments kept.
    pub kept: u64,
    /// Bytes of the removed binlogs.
    pub forgotten_bytes: u64,
    /// The earliest commit in a kept segment.
    pub kept_from: Option<DateTime<Utc>>,
}

impl ArchivePruned {
    /// Computes the result of removing these segments.
    pub fn new(archive: &Archive, forgotten: &BTreeSet<u64>) -> Self {
        let (gone, kept): (Vec<_>, Vec<_>) =
            archive.segments.iter().partition(|segment| forgotten.contains(&segment.number));
        Self {
            forgotten: gone.len() as u64,
            kept: kept.len() as u64,
            forgotten_bytes: gone.iter().map(|segment| segment.size()).sum(),
            kept_from: kept.iter().filter_map(|segment| segment.committed).map(|(from, _)| from).min(),
        }
    }
}

impl PruneReport {
    /// Returns a plan that is not carried out.
    pub fn planned(shard: ShardName, backups: Vec<RetentionVote>) -> Self {
        Self {
            shard,
            applied: false,
            backups,
            removed_objects: 0,
            freed_bytes: 0,
            removed_snapshots: Vec::new(),
            archive: ArchivePruned::default(),
            condemned: Vec::new(),
            undone: Vec::new(),
        }
    }

    /// Returns the same plan, marked as carried out.
    #[must_use]
    pub fn applied(self, removed_objects: u64, freed_bytes: u64) -> Self {
        Self { applied: true, removed_objects, freed_bytes, ..self }
    }

    /// Returns the backups to delete.
    pub fn deleted(&self) -> impl Iterator<Item = &BackupId> {
        self.backups.iter().filter(|vote| vote.is_delete()).map(|vote| &vote.id)
    }
}

/// `check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// True if no finding prevents a backup or a recovery.
    pub ok: bool,
    /// Findings about the repository and this host.
    pub findings: Vec<Finding>,
    /// Findings about each shard.
    pub shards: Vec<ShardCheck>,
}

/// Findings about one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardCheck {
    /// The shard.
    pub shard: ShardName,
    /// The recoverable moments; absent if the repository could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Returns the report of these findings.
    pub fn new(findings: Vec<Finding>, shards: Vec<ShardCheck>) -> Self {
        let all = || findings.iter().chain(shards.iter().flat_map(|shard| &shard.findings));
        Self { ok: all().all(|finding| finding.severity < Severity::Problem), findings, shards }
    }
}

/// `demo --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoReport {
    /// True if nothing was lost and the recovered server is the same as the primary.
    pub ok: bool,
    /// The steps carried out, in order.
    pub steps: Vec<DemoStep>,
    /// Commits that a server acknowledged to the writer.
    pub acknowledged_commits: u64,
    /// Acknowledged commits that the recovered server lacks.
    pub lost_commits: u64,
    /// The first, full backup.
    pub first_backup: BackupReport,
    /// The backup that was restored.
    pub backup: BackupReport,
    /// Longest time without a commit during each backup, in milliseconds.
    pub longest_gaps_ms: Vec<f64>,
    /// The recovery.
    pub recover: RecoverReport,
    /// Recovery of a dropped table; `None` when the servers are kept.
    pub dropped: Option<DroppedTableDemo>,
    /// The loss of all servers; `None` when the servers are kept.
    pub total_loss: Option<TotalLossDemo>,
}

/// Recovery of a dropped table to just before it was dropped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DroppedTableDemo {
    /// True if the table has its former contents again.
    pub same: bool,
    /// The transaction that dropped it, as `find` reports it.
    pub found: FoundTransaction,
    /// The recovery.
    pub recover: RecoverReport,
}

/// Loss of all servers of a shard and of the archiver.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TotalLossDemo {
    /// Commits acknowledged to the writer before the loss.
    pub acknowledged_commits: u64,
    /// Acknowledged commits that the new primary lacks.
    pub lost_commits: u64,
    /// Time from the loss until the new primary accepted writes, in seconds.
    pub rto_seconds: f64,
    /// The recovery.
    pub recover: RecoverReport,
}

/// One step of the demonstration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoStep {
    /// Its short name.
    pub name: String,
    /// The action and its result, in one sentence.
    pub what: String,
    /// Its duration in seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::backup::BackupSource;
    use backstop_types::freeze::FreezeMode;
    use backstop_types::ids::Endpoint;
    use backstop_types::topology::Role;

    use super::*;

    fn backup() -> BackupReport {
        let taken_at: DateTime<Utc> = "2026-11-20T23:55:00Z".parse().unwrap();
        BackupReport {
            backup_id: BackupId::new(taken_at, 1),
            shard: "orders".parse().unwrap(),
            kind: BackupKind::OnDemand,
            source: BackupSource { endpoint: Endpoint::new("db2", 3306), role: Role::Candidate },
            source_reason: "candidate db2:3306 is usable".to_owned(),
            gtid_executed: GtidSet::new(),
            freeze: FreezeReport { mode: FreezeMode::LockFree, held_ms: 1.5, waited_ms: 0.5 },
            parent: None,
            sizes: Sizes { data_bytes: 3, changed_bytes: 2, stored_bytes: 1 },
            taken_at,
            seconds: 2.5,
            ebs: None,
            findings: Vec::new(),
        }
    }

    #[test]
    fn reports_keep_their_field_names() {
        let row = BackupRow { report: backup(), state: BackupState::Complete, damage: None };
        let backups = BackupsReport { shard: "orders".parse().unwrap(), backups: vec![row] };
        let json = serde_json::to_value(VersionedReport::new(&backups)).unwrap();
        assert_eq!(json["version"], 1);
        let row = json["backups"][0].as_object().unwrap();
        let mut names: Vec<&str> = row.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "backup_id",
                "changed_bytes",
                "data_bytes",
                "freeze",
                "gtid_executed",
                "kind",
                "parent",
                "seconds",
                "shard",
                "source",
                "source_reason",
                "state",
                "stored_bytes",
                "taken_at"
            ]
        );
        assert_eq!(row["kind"], "on_demand");
        assert_eq!(row["source"], serde_json::json!({"host": "db2", "port": 3306, "role": "candidate"}));
        assert_eq!(row["freeze"]["mode"], "lock-free");
        assert_eq!(row["state"], "complete");
    }

    #[test]
    fn report_with_any_problem_is_not_ok() {
        let shard = |findings| ShardCheck { shard: "orders".parse().unwrap(), coverage: None, findings };
        let warning = Finding::warning("a", "b", "c");
        assert!(CheckReport::new(vec![], vec![shard(vec![warning])]).ok);
        assert!(!CheckReport::new(vec![], vec![shard(vec![Finding::problem("a", "b", "c")])]).ok);
        assert!(!CheckReport::new(vec![Finding::problem("a", "b", "c")], vec![]).ok);
    }

    #[test]
    fn prune_report_lists_what_is_deleted() {
        let report = backup();
        let votes = backstop_policy::retention::apply_retention(
            None,
            &[(report.backup_id, report.taken_at)],
            report.taken_at,
        );
        let plan = PruneReport::planned("orders".parse().unwrap(), votes).applied(3, 4);
        assert_eq!((plan.applied, plan.deleted().count(), plan.freed_bytes), (true, 0, 4));
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["backups"][0]["verdict"], "keep");
    }
}
