//! What commands report: one value that people, JSON and logs are all drawn from.
//!
//! Field names are a contract (`docs/commands.md`); new fields may be added, none renamed.

mod archive;
mod error;
mod find;
mod init;
mod repair;
mod status;
mod verify;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::archive::Archive;
use crate::backup::{BackupKind, BackupSource, Sizes};
use crate::finding::{Finding, Severity};
use crate::freeze::FreezeReport;
use crate::gtid::GtidSet;
use crate::ids::{BackupId, ShardName};
use crate::plan::{Ending, LatestAge};
use crate::retention::RetentionVote;
use crate::scheduled_events::EventsReport;

pub use archive::{ArchiveReport, ArchivedFork, ArchivedGap};
pub use error::ErrorReport;
pub use find::{ChangeKind, DataLoss, FindReport, FoundTransaction, RecoveryAdvice, SearchedPart, TableRows};
pub use init::{DraftReport, InitReport};
pub use repair::{RepairReport, RepairedIndex, RepairedLog, UnusableManifest};
pub use status::{
    AbandonedTimeline, Coverage, MemberStatus, RecoveryGap, RecoveryWindow, ShardStatus, StatusReport,
    rpo_seconds,
};
pub use verify::{
    DamagedObject, ShardVerification, UncheckedObject, VerifiedBackup, VerifyReport, VerifyVerdict,
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
    /// What started it.
    pub kind: BackupKind,
    /// The instance it was taken from.
    pub source: BackupSource,
    /// Why that instance, and why not the others.
    pub source_reason: String,
    /// What it holds.
    pub gtid_executed: GtidSet,
    /// How the freeze went.
    pub freeze: FreezeReport,
    /// The backup it builds on; `None` for a full one.
    pub parent: Option<BackupId>,
    /// How much data it is and cost.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// The moment of the snapshot.
    pub taken_at: DateTime<Utc>,
    /// Duration of the run.
    pub seconds: f64,
    /// The EBS snapshots its data is in; nothing if it is in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebs: Option<EbsSnapshots>,
    /// What speaks against its being the shard's data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl BackupReport {
    /// True if something was found that makes it doubtful whether it holds the shard's data.
    pub fn is_doubtful(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Problem)
    }
}

/// Snapshots of EBS volumes that one backup is kept in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EbsSnapshots {
    /// Their region.
    pub region: String,
    /// One for each volume of the set.
    pub snapshot_ids: Vec<String>,
    /// How far they are, when this was last asked; `None`: not asked.
    pub state: Option<VolumeState>,
}

/// How far a set of volume snapshots is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// All blocks are stored.
    Completed,
    /// Taken; blocks are still being stored in the background. A volume can be made from it only afterwards.
    Pending,
    /// At least one of them failed: nothing can be recovered from it.
    Error,
    /// At least one of them is gone.
    Missing,
}

/// `backups --from-tags --json`: what the tags of EBS snapshots say, without a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaggedReport {
    /// The shard.
    pub shard: ShardName,
    /// Its backups as the tags name them, newest first. Only those whose lock was proven.
    pub from_tags: Vec<TaggedBackup>,
}

/// A backup as the tags of its EBS snapshots name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaggedBackup {
    /// Its id.
    pub backup_id: BackupId,
    /// When the first of its snapshots was begun, by EC2's clock.
    pub taken_at: DateTime<Utc>,
    /// The instance it was taken from, `host:port`.
    pub source: String,
    /// The tag `Cluster-name`.
    pub cluster_name: String,
    /// The tag `GTID`: the whole set, or where to find it if it is longer than a tag.
    pub gtid: String,
    /// Where its data is.
    pub ebs: EbsSnapshots,
}

/// `recover --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoverReport {
    /// The shard.
    pub shard: ShardName,
    /// The backup it came from.
    pub backup_id: BackupId,
    /// The moment that was asked for, as asked.
    pub target: String,
    /// What the server held when it was handed over.
    pub gtid_executed: GtidSet,
    /// Transactions applied from the archive.
    pub transactions_replayed: u64,
    /// Where it runs.
    pub server: RecoveredServer,
    /// True if it follows the shard's primary and has caught up.
    pub joined: bool,
    /// How it ended: `standalone`, `join` or `as-primary`.
    pub ending: Ending,
    /// What was checked, each with its outcome.
    pub checks: Vec<Finding>,
    /// Durations of the steps.
    pub seconds: RecoverSeconds,
    /// What is left for the operator to do.
    pub next: Vec<String>,
    /// The events of a new primary, and their fate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsReport>,
    /// How new the archive was, if it was recovered to `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestAge>,
}

/// A server that a recovery left running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveredServer {
    /// Where it listens.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Unix socket.
    pub socket: String,
    /// Data directory.
    pub datadir: String,
    /// Option file for clients, if an account to read a copy with was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_file: Option<String>,
}

/// How long the steps of a recovery took, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RecoverSeconds {
    /// Writing the files.
    pub materialise: f64,
    /// Start of the server with its crash recovery.
    pub start: f64,
    /// Replay from the archive.
    pub replay: f64,
    /// Joining and catching up.
    pub join: f64,
    /// Everything.
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
    /// As it was reported when it was made.
    #[serde(flatten)]
    pub report: BackupReport,
    /// What can be done with it.
    pub state: BackupState,
    /// What a verification found damaged of it, while it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// What can be done with a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is whole, as far as was looked: nothing that was found speaks against recovering from it.
    Complete,
    /// Some of its data is damaged, as the last look found.
    Damaged,
    /// It is deleted; its data goes after the grace period.
    Deleted,
    /// Its EBS snapshots are not complete yet; they will be, if nothing happens to them.
    Pending,
    /// Its data is in EBS snapshots, and EC2 could not be asked for them.
    Unknown,
}

/// `prune --json`, for one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// The shard.
    pub shard: ShardName,
    /// True if it was carried out, false if this is only the plan.
    pub applied: bool,
    /// Every backup, newest first, and what becomes of it.
    pub backups: Vec<RetentionVote>,
    /// Objects that were removed.
    pub removed_objects: u64,
    /// Bytes that were freed.
    pub freed_bytes: u64,
    /// EBS snapshots that were deleted.
    pub removed_snapshots: Vec<String>,
    /// What becomes of the archive.
    pub archive: ArchivePruned,
    /// Backups that were deleted and whose data is still there.
    pub condemned: Vec<CondemnedBackup>,
    /// Backups whose deletion was taken back.
    pub undone: Vec<BackupId>,
}

/// A backup that was deleted and whose data is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CondemnedBackup {
    /// Which.
    pub backup_id: BackupId,
    /// When it was deleted, by the store's clock.
    pub deleted_at: DateTime<Utc>,
    /// Until then the deletion can be taken back.
    pub until: DateTime<Utc>,
}

/// What becomes of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArchivePruned {
    /// Pieces that go: older than `retention.binlogs`, and needed by no backup that is younger.
    pub forgotten: u64,
    /// Pieces that stay.
    pub kept: u64,
    /// Bytes of the binlogs that go.
    pub forgotten_bytes: u64,
    /// The earliest commit in a piece that stays.
    pub kept_from: Option<DateTime<Utc>>,
}

impl ArchivePruned {
    /// What becomes of it when these pieces go.
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
    /// A plan that is not carried out.
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

    /// The same plan, carried out.
    #[must_use]
    pub fn applied(self, removed_objects: u64, freed_bytes: u64) -> Self {
        Self { applied: true, removed_objects, freed_bytes, ..self }
    }

    /// The backups that go.
    pub fn deleted(&self) -> impl Iterator<Item = &BackupId> {
        self.backups.iter().filter(|vote| vote.is_delete()).map(|vote| &vote.id)
    }
}

/// `check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// True if nothing stands in the way of a backup or a recovery.
    pub ok: bool,
    /// What was found of the repository and this host.
    pub findings: Vec<Finding>,
    /// What was found of each shard.
    pub shards: Vec<ShardCheck>,
}

/// What was found of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardCheck {
    /// The shard.
    pub shard: ShardName,
    /// Which moments can be recovered; nothing if the repository did not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// The report of these findings.
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
    /// What was done, in order.
    pub steps: Vec<DemoStep>,
    /// Commits that a server acknowledged to the writer.
    pub acknowledged_commits: u64,
    /// Those of them that the recovered server lacks.
    pub lost_commits: u64,
    /// The first, full backup.
    pub first_backup: BackupReport,
    /// The backup that was recovered from.
    pub backup: BackupReport,
    /// Longest time without a commit during each backup, in milliseconds.
    pub longest_gaps_ms: Vec<f64>,
    /// The recovery.
    pub recover: RecoverReport,
    /// A table that was dropped and came back; `None` when the servers are kept.
    pub dropped: Option<DroppedTableDemo>,
    /// The loss of all servers; `None` when the servers are kept.
    pub total_loss: Option<TotalLossDemo>,
}

/// A table that was dropped, and recovered to just before it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DroppedTableDemo {
    /// True if it came back as it was.
    pub same: bool,
    /// The transaction that dropped it, as `find` tells of it.
    pub found: FoundTransaction,
    /// The recovery.
    pub recover: RecoverReport,
}

/// The loss of all servers of a shard, with the archiver.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TotalLossDemo {
    /// Commits that were acknowledged to the writer up to then.
    pub acknowledged_commits: u64,
    /// Those of them that the new primary lacks.
    pub lost_commits: u64,
    /// From the loss until the new primary took writes, in seconds.
    pub rto_seconds: f64,
    /// The recovery.
    pub recover: RecoverReport,
}

/// One step of the demonstration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoStep {
    /// Its short name.
    pub name: String,
    /// What was done and seen, in a sentence.
    pub what: String,
    /// How long it took.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backup::BackupSource;
    use crate::freeze::FreezeMode;
    use crate::ids::Endpoint;
    use crate::topology::Role;

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
    fn field_names_are_a_contract() {
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
    fn a_problem_anywhere_is_not_ok() {
        let shard = |findings| ShardCheck { shard: "orders".parse().unwrap(), coverage: None, findings };
        let warning = Finding::warning("a", "b", "c");
        assert!(CheckReport::new(vec![], vec![shard(vec![warning])]).ok);
        assert!(!CheckReport::new(vec![], vec![shard(vec![Finding::problem("a", "b", "c")])]).ok);
        assert!(!CheckReport::new(vec![Finding::problem("a", "b", "c")], vec![]).ok);
    }

    #[test]
    fn prune_tells_what_goes() {
        let report = backup();
        let votes =
            crate::retention::apply_retention(None, &[(report.backup_id, report.taken_at)], report.taken_at);
        let plan = PruneReport::planned("orders".parse().unwrap(), votes).applied(3, 4);
        assert_eq!((plan.applied, plan.deleted().count(), plan.freed_bytes), (true, 0, 4));
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["backups"][0]["verdict"], "keep");
    }
}
