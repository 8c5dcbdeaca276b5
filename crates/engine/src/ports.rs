//! Ports: the interfaces through which stories reach everything outside, on one page.
//!
//! Every call has a deadline set by its adapter and returns an
//! [`Error`](backstop_types::error::Error) that says what the operator can do. Adapters decide
//! nothing; the stories do. Each port has one conformance suite in `backstop-testkit` that every
//! adapter runs.

mod infrastructure;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use backstop_policy::plugins::LoadedPlugins;
use backstop_policy::scheduled_events::PresentEvent;
use backstop_policy::schema_diff::TableInventory;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_policy::table_check::TablesChecked;
use backstop_types::backup::{BrokenTable, Lineage, VolumeState};
use backstop_types::completion::CompletionOutcome;
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::{Error, Result};
use backstop_types::finding::Finding;
use backstop_types::freeze::FreezeReport;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::plugins::Plugin;
use backstop_types::progress::Progress;
use backstop_types::scheduled_events::{EventState, ServerEvents};
use backstop_types::server::{Position, RecordedSettings};
use backstop_types::topology::{Member, SourceChoice};
use chrono::{DateTime, Utc};

use crate::datadir_files::ServerFiles;
use crate::report::TaggedBackup;

pub use backstop_host::{Clock, Host};
pub use infrastructure::{
    CreatedInstance, DestroyProtection, HostRecovery, Infrastructure, InfrastructureChanges, InstanceSpec,
    Playbook, PlaybookInputs, VolumeInitialization,
};

/// Receives the progress of long work. Calls must be cheap and must not block.
pub trait Reporter: Send + Sync {
    /// Reports that a step of the story begins. `name` is the step's name in the plan and the
    /// journal.
    fn step(&self, name: &'static str);
    /// Reports the progress of the current step.
    fn progress(&self, progress: Progress);
    /// Reports a fact that the operator should see now (a primary is being locked, a retry, …).
    fn notice(&self, text: &str);
    /// Reports an explanation that needs no action of the operator.
    fn remark(&self, text: &str) {
        self.notice(text);
    }
}

/// Failpoints: tests stop a story at them, before and after the effect of every named step. The
/// production implementation does nothing.
pub trait Failpoints: Send + Sync {
    /// Reaches a failpoint. `point` is `before:<step>` or `after:<step>`.
    fn reach(&self, point: &str);
}

/// Members of a shard and their state.
#[async_trait]
pub trait Topology: Send + Sync {
    /// Queries every member concurrently. The list contains members that do not answer, with the
    /// reason. Waits, within a limit, while an authority on the members (orchestrator) reports a
    /// failover in progress.
    async fn members(&self) -> Result<Vec<Member>>;
    /// Queries one server, which need not be a member: its state, or the reason why it does not
    /// answer.
    async fn probe(&self, server: &Endpoint) -> Member;
    /// Returns the settings of a primary that its archive depends on.
    async fn source_settings(&self, primary: &Endpoint) -> Result<SourceSettings>;
    /// Returns the findings of the last look at the members that concern the authority on them.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
    /// Waits, within a limit, until the authority on the members lists a server that has joined.
    /// `server` is its address for others; `None` if it listens on loopback only. Returns the
    /// outcome; `None` if the configuration lists the members.
    async fn await_listed(&self, _server: Option<&Endpoint>) -> Option<Finding> {
        None
    }
}

/// Reads which schemas, tables, events and plugins a server has.
#[async_trait]
pub trait Schemas: Send + Sync {
    /// Returns its tables once it has executed `after`, for which it waits only a few seconds.
    async fn tables(&self, endpoint: &Endpoint, after: &GtidSet) -> Result<TableInventory>;
    /// Returns its events with their states; only a primary's states are meaningful.
    async fn events(&self, endpoint: &Endpoint) -> Result<ServerEvents>;
    /// Returns its active plugins that are not built in.
    async fn plugins(&self, endpoint: &Endpoint) -> Result<Vec<Plugin>>;
}

/// Opens the instance that was chosen for a backup.
#[async_trait]
pub trait BackupInstances: Send + Sync {
    /// Connects, checks that it is the chosen server, and returns what a backup of it needs.
    async fn open(&self, choice: &SourceChoice) -> Result<BackupInstance>;
    /// Returns the problems that would prevent a backup of a fallback member, as far as they are
    /// visible from this host. `provider` takes the snapshots of the first choice. Changes nothing.
    async fn survey(&self, choice: &SourceChoice, provider: &'static str) -> Result<Vec<Finding>>;
}

/// An instance that is to be backed up.
pub struct BackupInstance {
    /// Settings that a recovered server should keep.
    pub settings: RecordedSettings,
    /// Findings about it that an operator should know before its backup is recovered.
    pub findings: Vec<Finding>,
    /// Takes snapshots of it, with the configured or detected provider.
    pub snapshots: Box<dyn SnapshotProvider>,
}

/// Images of one instance's data, each taken at one exact position.
///
/// Guarantees of `take`: when it returns `Ok`, the snapshot opens to a data directory that recovers
/// to exactly `position.gtid_executed`; no lock is held and nothing is left running. When it
/// returns `Err`, or its process is killed, no lock outlives the limit and `list` names the remains
/// so that `release` can remove them. Artefacts are named after the run.
#[async_trait]
pub trait SnapshotProvider: Send + Sync {
    /// Returns `clone`, `btrfs`, …: the value of `snapshot.provider`.
    fn provider(&self) -> &'static str;
    /// Returns everything that prevents `take` on this instance, and its cost.
    /// [`Severity::Problem`](backstop_types::finding::Severity::Problem) means `take` will refuse.
    async fn check(&self) -> Result<Vec<Finding>>;
    /// Takes a snapshot for a run. The run's id names every artefact.
    async fn take(&self, run: &BackupId) -> Result<TakenSnapshot>;
    /// Makes the snapshot's data available; it stays so until `release`.
    async fn open(&self, snapshot: &Snapshot) -> Result<SnapshotData>;
    /// Removes the snapshot and everything that was made for its run. A snapshot that is gone is no
    /// error.
    async fn release(&self, snapshot: &Snapshot) -> Result<()>;
    /// Returns every snapshot of Backstop's on this host for this work directory, or of this shard
    /// if the snapshots are the backups. Includes incomplete ones.
    async fn list(&self) -> Result<Vec<Snapshot>>;
    /// True if the snapshot itself is the backup's data. Then it is released only if its backup was
    /// not committed.
    fn is_backup(&self) -> bool {
        false
    }
    /// Waits, within the provider's time limit, until all data of the snapshot is safely stored.
    /// Returns [`VolumeState::Pending`] if the limit passes first.
    async fn complete(&self, _: &Snapshot) -> Result<VolumeState> {
        Ok(VolumeState::Completed)
    }
    /// Returns the ranges of each file that may differ from an earlier snapshot of the same
    /// lineage, if the file system tracks them reliably. `None`: read everything.
    async fn changes(&self, snapshot: &Snapshot, since: &Lineage) -> Result<Option<ChangedFiles>>;
}

/// A snapshot, identified by the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The run.
    pub run: BackupId,
    /// Path of its artefacts on this host; empty if it has none.
    pub path: PathBuf,
}

/// Data of a snapshot, as a backup uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotData {
    /// A directory, whose files are read and stored.
    Tree(SnapshotDir),
    /// Snapshots of block volumes, which hold the data themselves.
    Volumes(VolumeSet),
}

impl SnapshotData {
    /// Returns the directory.
    ///
    /// # Errors
    /// Fails if the snapshot is not a directory.
    pub fn tree(self) -> Result<SnapshotDir> {
        match self {
            Self::Tree(opened) => Ok(opened),
            Self::Volumes(volumes) => Err(Error::failed(format!(
                "cannot read {}: not on this host",
                volumes.snapshot_ids.join(", ")
            ))),
        }
    }
}

/// A set of block volume snapshots, taken at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSet {
    /// One for each volume.
    pub snapshot_ids: Vec<String>,
    /// Region of the snapshots.
    pub region: String,
    /// Size of all volumes together, in bytes.
    pub bytes: u64,
    /// The volumes as they are, one for each snapshot.
    pub volumes: Vec<EbsVolume>,
}

/// A snapshot that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDir {
    /// The data directory.
    pub root: PathBuf,
    /// Locations of the server's logs in it, which
    /// [`datadir_files`](crate::datadir_files::datadir_files) needs.
    pub files: ServerFiles,
}

/// Result of `take`.
#[derive(Debug, Clone)]
pub struct TakenSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Position that it holds.
    pub position: Position,
    /// Course of the freeze.
    pub freeze: FreezeReport,
    /// Lineage of the snapshot.
    pub lineage: Lineage,
    /// The moment of the image.
    pub taken_at: DateTime<Utc>,
    /// Tables that the source itself could not read at that moment.
    pub broken_tables: Vec<BrokenTable>,
}

/// Block volume snapshots that hold backups of any shard, even if its servers are gone.
#[async_trait]
pub trait VolumeSnapshots: Send + Sync {
    /// Returns the state of a backup's set.
    async fn state(&self, snapshot_ids: &[String], region: &str) -> Result<VolumeState>;
    /// Returns the states of the sets of several backups, in their order.
    async fn states(&self, sets: &[Vec<String>], region: &str) -> Result<Vec<VolumeState>> {
        let mut states = Vec::with_capacity(sets.len());
        for set in sets {
            states.push(self.state(set, region).await?);
        }
        Ok(states)
    }
    /// Deletes the snapshots. A snapshot that is gone is not an error.
    async fn delete(&self, snapshot_ids: &[String], region: &str) -> Result<()>;
    /// Deletes a shard's snapshots that were never proven and are so old that their run must be
    /// dead. Returns their ids.
    async fn clear_dead_runs(&self, shard: &ShardName) -> Result<Vec<String>>;
    /// Tags the snapshots of a backup with its end. A snapshot that is gone is not an error.
    async fn mark_completion(
        &self,
        snapshot_ids: &[String],
        region: &str,
        outcome: CompletionOutcome,
    ) -> Result<()>;
    /// Returns a shard's backups according to the tags, newest first. Only proven, complete sets.
    async fn tagged(&self, shard: &ShardName) -> Result<Vec<TaggedBackup>>;
}

/// Changed byte ranges by inode number. A file whose inode is missing here, or differs from the
/// parent's, must be read whole.
pub type ChangedFiles = std::collections::BTreeMap<u64, Vec<std::ops::Range<u64>>>;

/// Starts, finds and stops mysqld processes on this host.
#[async_trait]
pub trait MysqldControl: Send + Sync {
    /// Returns the path of the server program that would be started.
    fn program(&self) -> PathBuf;
    /// Returns the version of the server program that would be started.
    async fn version(&self) -> Result<backstop_types::server::ServerVersion>;
    /// Starts a server that outlives this process: own session, stdio to its log, no inherited
    /// descriptors. Returns its pid once the process exists; it may still be recovering.
    async fn start(&self, start: &MysqldStart) -> Result<u32>;
    /// Waits until the server answers on its socket, and reports progress from its log as notices.
    /// Fails with the end of its log when it exits or the deadline passes.
    async fn wait_ready(&self, start: &MysqldStart, pid: u32, deadline: Duration) -> Result<()>;
    /// Has the program read and check these lines of an option file, without a server. Returns
    /// [`Kind::Usage`](backstop_types::error::ErrorKind) with its message if it would not start
    /// with them.
    async fn check_options(&self, options: &str) -> Result<()>;
    /// Stops a server: by an orderly shutdown, then by SIGKILL after the deadline.
    async fn stop(&self, datadir: &Path, deadline: Duration) -> Result<()>;
    /// Changes the owner of a file, or of a directory with everything in it, so that a server
    /// started as that user owns it.
    async fn chown(&self, path: &Path, user: &str) -> Result<()>;
    /// Returns the pid of the server that runs on this data directory, if one does.
    async fn running_on(&self, datadir: &Path) -> Result<Option<u32>>;
}

/// Parameters for starting a recovered server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqldStart {
    /// Its option file; `--defaults-file` must come first.
    pub defaults_file: PathBuf,
    /// Data directory.
    pub datadir: PathBuf,
    /// Socket.
    pub socket: PathBuf,
    /// Error log.
    pub log: PathBuf,
    /// User to run as; `None`: the user that runs Backstop.
    pub user: Option<String>,
    /// Further arguments.
    pub args: Vec<String>,
}

/// Administrator access to a server in recovery, whose accounts are the donor's.
#[async_trait]
pub trait AdminAccess: Send + Sync {
    /// Prepares a temporary administrator account that exists only on this server and never reaches
    /// a binary log. Returns the arguments to start the server with. `private_dir` (mode 0700)
    /// holds its secrets with mode 0600, until `hand_over`.
    async fn prepare(&self, private_dir: &Path) -> Result<Vec<String>>;
    /// Logs in as that administrator.
    async fn session(&self, start: &MysqldStart, private_dir: &Path) -> Result<Box<dyn AdminSession>>;
}

/// A session on a server in recovery, as an administrator.
#[async_trait]
pub trait AdminSession: Send {
    /// Returns `@@server_uuid`.
    async fn server_uuid(&mut self) -> Result<backstop_types::ids::ServerUuid>;
    /// Returns `@@GLOBAL.gtid_purged`.
    async fn gtid_purged(&mut self) -> Result<GtidSet>;
    /// Makes the server acknowledge as a semi-synchronous replica, from now on and after a restart.
    async fn enable_semi_sync_replica(&mut self) -> Result<()>;
    /// Creates an account that logs in over the socket and may read everything, and a client option
    /// file with its password, mode 0600. The server must accept writes.
    async fn leave_copy_login(&mut self, client_file: &Path, socket: &Path) -> Result<()>;
    /// Removes the temporary administrator account and its secrets: the last operation of a
    /// recovery.
    async fn hand_over(&mut self) -> Result<()>;
    /// Returns `@@GLOBAL.gtid_executed`.
    async fn gtid_executed(&mut self) -> Result<GtidSet>;
    /// Removes all of the donor's replication (`RESET REPLICA ALL`), on all channels.
    async fn forget_replication(&mut self) -> Result<()>;
    /// Returns true if it has `MEMORY` tables.
    async fn has_memory_tables(&mut self) -> Result<bool>;
    /// Uses every `MEMORY` table, which the server logs the first time after its start, then empties `gtid_executed` and the binary logs.
    async fn reset_gtids(&mut self) -> Result<()>;
    /// Sets `gtid_purged` on a server whose `gtid_executed` is empty.
    async fn set_gtid_purged(&mut self, set: &GtidSet) -> Result<()>;
    /// Checks every user table (`CHECK TABLE`); returns the broken ones.
    async fn check_tables(&mut self, depth: CheckDepth, reporter: &dyn Reporter) -> Result<TablesChecked>;
    /// Replicates from a source with auto-position: starts both threads.
    async fn follow(&mut self, source: &Endpoint) -> Result<()>;
    /// Returns the state of replication.
    async fn replication(&mut self) -> Result<Option<backstop_types::topology::Replication>>;
    /// Makes replication fast on a server whose data can be restored again: relaxed durability,
    /// parallel appliers that preserve the commit order. Returns the changed settings with their
    /// previous values. Replication must be stopped.
    async fn relax_durability(&mut self) -> Result<Vec<(String, String)>>;
    /// Sets these values, and makes all executed transactions durable.
    async fn restore_settings(&mut self, settings: &[(String, String)]) -> Result<()>;
    /// Replicates from a binlog server with auto-position until these transactions are executed;
    /// replaces any earlier replication.
    async fn replay_from(&mut self, server: &ReplaySource, until: &GtidSet) -> Result<()>;
    /// Returns all its events.
    async fn events(&mut self) -> Result<Vec<PresentEvent>>;
    /// Sets the state of an event, in a transaction with the server's UUID; nothing else of the
    /// event changes. The server must accept writes. Returns the server's reason if it refuses.
    async fn set_event(&mut self, event: &PresentEvent, state: EventState) -> Result<Option<String>>;
    /// Lets enabled events fire from now until a restart.
    async fn start_event_scheduler(&mut self) -> Result<()>;
    /// Returns its loaded plugins, and those that its accounts need.
    async fn loaded(&mut self) -> Result<LoadedPlugins>;
    /// Sets super_read_only.
    async fn set_super_read_only(&mut self, on: ReadOnly) -> Result<()>;
}

/// A binlog server on loopback to replay from.
#[derive(Debug, Clone)]
pub struct ReplaySource {
    /// Its port.
    pub port: u16,
    /// Its account.
    pub user: String,
    /// The account's password.
    pub password: secrecy::SecretString,
}

/// Depth of the table check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Opens every table and checks the structure of its indexes.
    Quick,
    /// Reads every row of every index.
    Full,
}

/// Read-only mode of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// Refuses all writes, even of administrators.
    Super,
    /// Accepts writes.
    Off,
}
