//! The ports: everything a story needs from outside, on one page.
//!
//! Every call is bounded by its adapter's own deadline and returns a [`Error`](backstop_model::error::Error)
//! that says what the operator can do. Adapters decide nothing; the stories do. Each port has one
//! conformance suite in `backstop-testkit` that every adapter runs.

mod infrastructure;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use backstop_model::backup::Lineage;
use backstop_model::error::{Error, Result};
use backstop_model::finding::Finding;
use backstop_model::freeze::FreezeReport;
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{BackupId, Endpoint, ShardName};
use backstop_model::plugins::{LoadedPlugins, Plugin};
use backstop_model::progress::Progress;
use backstop_model::report::{TaggedBackup, VolumeState};
use backstop_model::scheduled_events::{EventState, PresentEvent, ServerEvents};
use backstop_model::schema_diff::TableInventory;
use backstop_model::server::{Position, RecordedSettings};
use backstop_model::stream_or_fork::SourceSettings;
use backstop_model::table_check::{BrokenTable, TablesChecked};
use backstop_model::topology::{Member, SourceChoice};
use chrono::{DateTime, Utc};

use crate::datadir_files::ServerFiles;

pub use infrastructure::{
    CloudHosts, CreatedInstance, DestroyProtection, Infrastructure, InfrastructureChanges, InstanceSpec,
    Playbook, PlaybookInputs, ServerProbe, VolumeInitialization,
};

/// Wall clock, monotonic clock and randomness.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time of day. Recorded, never compared across hosts.
    fn now(&self) -> DateTime<Utc>;
    /// Time since some fixed moment of this process; never goes back.
    fn monotonic(&self) -> Duration;
    /// Waits.
    async fn sleep(&self, duration: Duration);
    /// A random number.
    fn random(&self) -> u64;
}

/// Told how far long work is. Cheap to call; must not block.
pub trait Reporter: Send + Sync {
    /// A step of the story begins. `name` is the step's name in the plan and the journal.
    fn step(&self, name: &'static str);
    /// The current step is this far.
    fn progress(&self, progress: Progress);
    /// Something the operator should see now (a primary is being locked, a retry, …).
    fn notice(&self, text: &str);
    /// Something that explains what is done, and asks nothing of the operator.
    fn remark(&self, text: &str) {
        self.notice(text);
    }
}

/// A place where tests stop a story: called before and after the effect of every named step.
/// The production value does nothing.
pub trait Failpoints: Send + Sync {
    /// `point` is `before:<step>` or `after:<step>`.
    fn reach(&self, point: &str);
}

/// Who is in the shard and how they are.
#[async_trait]
pub trait Topology: Send + Sync {
    /// Asks every member, in parallel. Members that do not answer are in the list with the reason. Waits, within
    /// bounds, while somebody who knows the members (orchestrator) says that a failover goes on.
    async fn members(&self) -> Result<Vec<Member>>;
}

/// Asks a primary for the settings that its archive depends on.
#[async_trait]
pub trait SourceInspection: Send + Sync {
    /// What it says.
    async fn settings(&self, endpoint: &Endpoint) -> Result<SourceSettings>;
}

/// Asks a server which schemas, tables, events and plugins it has.
#[async_trait]
pub trait Schemas: Send + Sync {
    /// What it has, once it has executed `after`: that is waited for some seconds only.
    async fn tables(&self, endpoint: &Endpoint, after: &GtidSet) -> Result<TableInventory>;
    /// Its events with their states, which only a primary's tell.
    async fn events(&self, endpoint: &Endpoint) -> Result<ServerEvents>;
    /// Its active plugins that are not built in.
    async fn plugins(&self, endpoint: &Endpoint) -> Result<Vec<Plugin>>;
}

/// Opens the instance that was chosen for a backup.
#[async_trait]
pub trait BackupInstances: Send + Sync {
    /// Connects, checks that it is the server that was chosen, and gives what a backup of it needs.
    async fn open(&self, choice: &SourceChoice) -> Result<BackupInstance>;
    /// What stands in the way of backing up a member that is only second choice, as far as that is seen from here. `provider` takes the
    /// snapshots of the first choice. Touches nothing.
    async fn survey(&self, choice: &SourceChoice, provider: &'static str) -> Result<Vec<Finding>>;
}

/// An instance that is to be backed up.
pub struct BackupInstance {
    /// What a recovered server should keep of its settings.
    pub settings: RecordedSettings,
    /// What an operator should know of it before its backup is recovered.
    pub findings: Vec<Finding>,
    /// Takes snapshots of it, by the provider that was configured or found fit.
    pub snapshots: Box<dyn SnapshotProvider>,
}

/// Images of one instance's data, each taken at one exact position.
///
/// Guarantees of `take`: when it returns `Ok`, the snapshot opens to a data directory that recovers to
/// exactly `position.gtid_executed`; no lock is held and nothing is left running. When it returns `Err`, or
/// its process is killed, no lock outlives the bound and `list` names what is left so that `release` can
/// remove it. Artefacts are named after the run.
#[async_trait]
pub trait SnapshotProvider: Send + Sync {
    /// `clone`, `btrfs`, …: the value of `snapshot.provider`.
    fn provider(&self) -> &'static str;
    /// Everything that stands in the way of `take` on this instance, and what it would cost.
    /// [`Severity::Problem`](backstop_model::finding::Severity::Problem) means `take` will refuse.
    async fn check(&self) -> Result<Vec<Finding>>;
    /// Takes a snapshot for a run. The run's id names every artefact.
    async fn take(&self, run: &BackupId) -> Result<TakenSnapshot>;
    /// Makes the snapshot's data available; it stays so until `release`.
    async fn open(&self, snapshot: &Snapshot) -> Result<SnapshotData>;
    /// Removes the snapshot and everything that was made for its run. Removing what is gone is no error.
    async fn release(&self, snapshot: &Snapshot) -> Result<()>;
    /// Every snapshot of Backstop's on this host for this work directory, or of this shard where the snapshots are the
    /// backups, also half made ones.
    async fn list(&self) -> Result<Vec<Snapshot>>;
    /// True if the snapshot itself is the backup's data. Then it is only released when no backup came of it.
    fn is_backup(&self) -> bool {
        false
    }
    /// Waits, within the provider's bound, until all data of the snapshot is safely stored.
    /// [`VolumeState::Pending`] if the bound is passed first.
    async fn complete(&self, _: &Snapshot) -> Result<VolumeState> {
        Ok(VolumeState::Completed)
    }
    /// The ranges of each file that may differ from an earlier snapshot of the same lineage, if the file
    /// system can be trusted to know. `None`: read everything.
    async fn changes(&self, snapshot: &Snapshot, since: &Lineage) -> Result<Option<ChangedFiles>>;
}

/// A snapshot, by the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The run.
    pub run: BackupId,
    /// Where its artefacts are on this host; empty if it has none.
    pub path: PathBuf,
}

/// What a snapshot is, to the one who makes a backup of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotData {
    /// A directory, to be read and stored.
    Tree(SnapshotDir),
    /// Snapshots of block volumes, which keep the data themselves.
    Volumes(VolumeSet),
}

impl SnapshotData {
    /// The directory.
    ///
    /// # Errors
    /// When it is none.
    pub fn tree(self) -> Result<SnapshotDir> {
        match self {
            Self::Tree(opened) => Ok(opened),
            Self::Volumes(volumes) => {
                Err(Error::failed(format!("read {}: not on this host", volumes.snapshot_ids.join(", "))))
            }
        }
    }
}

/// A set of block volume snapshots, taken in one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSet {
    /// One for each volume.
    pub snapshot_ids: Vec<String>,
    /// Where they are.
    pub region: String,
    /// Size of all volumes together, in bytes.
    pub bytes: u64,
}

/// A snapshot that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDir {
    /// The data directory.
    pub root: PathBuf,
    /// Where the server's logs are in it, which [`datadir_files`](crate::datadir_files::datadir_files) needs to know.
    pub files: ServerFiles,
}

/// What `take` gives.
#[derive(Debug, Clone)]
pub struct TakenSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What it holds.
    pub position: Position,
    /// How the freeze went.
    pub freeze: FreezeReport,
    /// Which history it belongs to.
    pub lineage: Lineage,
    /// The moment of the image.
    pub taken_at: DateTime<Utc>,
    /// The tables that the source itself could not read then.
    pub broken_tables: Vec<BrokenTable>,
}

/// The block volume snapshots that backups of any shard are kept in, also when their servers are gone.
#[async_trait]
pub trait VolumeSnapshots: Send + Sync {
    /// How far a backup's set is.
    async fn state(&self, snapshot_ids: &[String], region: &str) -> Result<VolumeState>;
    /// How far the sets of several backups are, in their order.
    async fn states(&self, sets: &[Vec<String>], region: &str) -> Result<Vec<VolumeState>> {
        let mut states = Vec::with_capacity(sets.len());
        for set in sets {
            states.push(self.state(set, region).await?);
        }
        Ok(states)
    }
    /// Deletes them. Deleting what is gone is no error.
    async fn delete(&self, snapshot_ids: &[String], region: &str) -> Result<()>;
    /// Deletes those of a shard that were never proven and whose run must be dead by their age. Returns their ids.
    async fn clear_dead_runs(&self, shard: &ShardName) -> Result<Vec<String>>;
    /// What the tags say of a shard's backups, newest first. Only proven, whole sets.
    async fn tagged(&self, shard: &ShardName) -> Result<Vec<TaggedBackup>>;
}

/// Changed byte ranges by inode number. A file whose inode is missing here, or was another one in the
/// parent, must be read whole.
pub type ChangedFiles = std::collections::BTreeMap<u64, Vec<std::ops::Range<u64>>>;

/// Starts, finds and stops mysqld processes on this host.
#[async_trait]
pub trait MysqldControl: Send + Sync {
    /// The server program that would be started.
    fn program(&self) -> PathBuf;
    /// The version of the server program that would be started.
    async fn version(&self) -> Result<backstop_model::server::ServerVersion>;
    /// Starts a server that outlives this process: own session, stdio to its log, nothing inherited.
    /// Returns once the process exists, with its pid; it may still be recovering.
    async fn start(&self, start: &MysqldStart) -> Result<u32>;
    /// Waits until the server answers on its socket, with what its log says about progress as notices. Fails
    /// with the end of its log when it exits or the deadline passes.
    async fn wait_ready(&self, start: &MysqldStart, pid: u32, deadline: Duration) -> Result<()>;
    /// Has the program read these lines of an option file and check them, without a server. [`Kind::Usage`](backstop_model::error::ErrorKind)
    /// with what it says if it would not start with them.
    async fn check_options(&self, options: &str) -> Result<()>;
    /// Stops a server: orderly, then by SIGKILL after the deadline.
    async fn stop(&self, datadir: &Path, deadline: Duration) -> Result<()>;
    /// Gives a file, or a directory with everything in it, to a user, so that a server started as that user owns it.
    async fn chown(&self, path: &Path, user: &str) -> Result<()>;
    /// The pid of the server that runs on this data directory, if one does.
    async fn running_on(&self, datadir: &Path) -> Result<Option<u32>>;
}

/// How to start a recovered server.
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
    /// The user to run as; `None`: who runs Backstop.
    pub user: Option<String>,
    /// Further arguments.
    pub args: Vec<String>,
}

/// Administrator access to a server that is being recovered, whose accounts are the donor's.
#[async_trait]
pub trait AdminAccess: Send + Sync {
    /// Prepares a temporary administrator account that exists only on this server and never reaches a
    /// binary log. Returns the arguments to start the server with. Secrets are kept in `private_dir` (mode
    /// 0700) with mode 0600, until `hand_over`.
    async fn prepare(&self, private_dir: &Path) -> Result<Vec<String>>;
    /// Logs in as that administrator.
    async fn session(&self, start: &MysqldStart, private_dir: &Path) -> Result<Box<dyn AdminSession>>;
}

/// A session on a server that is being recovered, as an administrator.
#[async_trait]
pub trait AdminSession: Send {
    /// `@@server_uuid`.
    async fn server_uuid(&mut self) -> Result<backstop_model::ids::ServerUuid>;
    /// `@@GLOBAL.gtid_purged`.
    async fn gtid_purged(&mut self) -> Result<GtidSet>;
    /// Acknowledges as a semi-synchronous replica from now on and after a restart.
    async fn enable_semi_sync_replica(&mut self) -> Result<()>;
    /// Leaves an account that logs in over the socket and may read everything, and an option file for clients that holds its password,
    /// mode 0600. The server must take writes.
    async fn leave_copy_login(&mut self, client_file: &Path, socket: &Path) -> Result<()>;
    /// Removes the temporary administrator account and its secrets: the last thing a recovery does.
    async fn hand_over(&mut self) -> Result<()>;
    /// `@@GLOBAL.gtid_executed`.
    async fn gtid_executed(&mut self) -> Result<GtidSet>;
    /// Forgets everything of the donor's replication (`RESET REPLICA ALL`), all channels.
    async fn forget_replication(&mut self) -> Result<()>;
    /// Returns true if it has `MEMORY` tables.
    async fn has_memory_tables(&mut self) -> Result<bool>;
    /// Uses every `MEMORY` table, which the server logs the first time after its start, then empties `gtid_executed` and the binary logs.
    async fn reset_gtids(&mut self) -> Result<()>;
    /// Sets `gtid_purged` on a server whose `gtid_executed` is empty.
    async fn set_gtid_purged(&mut self, set: &GtidSet) -> Result<()>;
    /// Checks every user table (`CHECK TABLE`); names the broken ones.
    async fn check_tables(&mut self, depth: CheckDepth, reporter: &dyn Reporter) -> Result<TablesChecked>;
    /// Follows a source with auto-position and starts both threads.
    async fn follow(&mut self, source: &Endpoint) -> Result<()>;
    /// How far replication is.
    async fn replication(&mut self) -> Result<Option<backstop_model::topology::Replication>>;
    /// Makes replication as fast as it can be on a server whose data can be made anew: relaxed durability, parallel appliers that
    /// commit in order. Gives the settings that were changed, with their values before. Replication must be stopped.
    async fn relax_durability(&mut self) -> Result<Vec<(String, String)>>;
    /// Gives settings these values, and makes everything that was executed durable.
    async fn restore_settings(&mut self, settings: &[(String, String)]) -> Result<()>;
    /// Replicates from a binlog server with auto-position until these transactions are executed; whatever it replicated before is
    /// forgotten.
    async fn replay_from(&mut self, server: &ReplaySource, until: &GtidSet) -> Result<()>;
    /// Every event it has.
    async fn events(&mut self) -> Result<Vec<PresentEvent>>;
    /// Gives an event a state, in a transaction of the server's own; nothing else of the event changes. The server must take writes.
    /// Gives the server's reason if it refuses.
    async fn set_event(&mut self, event: &PresentEvent, state: EventState) -> Result<Option<String>>;
    /// Lets enabled events fire from now on, until it is restarted.
    async fn start_event_scheduler(&mut self) -> Result<()>;
    /// What it has loaded, and what its accounts need.
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

/// How thoroughly tables are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Opens every table and checks its indexes' structure.
    Quick,
    /// Reads every row of every index.
    Full,
}

/// Whether a server takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// Refuses all writes, also of administrators.
    Super,
    /// Takes writes.
    Off,
}
