//! Snapshots of an EC2 instance's EBS volumes, taken from any host: all of MySQL's volumes in one
//! set, at the same moment, under the lock. The snapshots are the backup; no data is read from
//! them.

mod catalog;
mod confirm;
pub(crate) mod ec2;
pub(crate) mod find_instance;
#[cfg(test)]
mod frozen;
mod hosts;
mod plan;
mod snapshot_sets;
pub(crate) mod tags;
pub(crate) mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backstop_adapters::mysql::freeze_locks::MysqlFreezeSessions;
use backstop_adapters::snapshot_target::SnapshotTarget;
use backstop_config::settings::VolumeHint;
use backstop_engine::freeze::{Frozen, freeze_locked};
use backstop_engine::ports::{
    ChangedFiles, Snapshot, SnapshotData, SnapshotProvider, TakenSnapshot, VolumeSet,
};
use backstop_types::backup::{Lineage, VolumeState};
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::{BackupId, ShardName};
use backstop_types::topology::Role;

use crate::client::AwsClient;
use ec2::{CreateOutcome, EbsSnapshot, EbsSnapshotState, Ec2};
use plan::EbsPlan;
use tags::SnapshotTags;

pub use catalog::EbsCatalog;
pub use find_instance::HOST_TAG;
pub use hosts::Ec2Hosts;
pub use snapshot_sets::{SetStanding, SnapshotSet, SnapshotSets};
pub use tags::{
    CLUSTER_TAG, COMPLETION_TAG, GTID_TAG, PROVEN, REPOSITORY_TAG, RUN_TAG, SECRET_TAG, SET_SIZE_TAG,
    SHARD_TAG, SOURCE_TAG, STATE_TAG, UNPROVEN, VOLUME_TAG,
};
pub use volumes::MOUNT_TAG;

/// An instance whose volumes are snapshotted.
pub type EbsSnapshotSource = SnapshotTarget<EbsPlace>;

/// Place of the snapshots of an instance's volumes in AWS.
#[derive(Clone)]
pub struct EbsPlace {
    /// Access to AWS in the instance's region.
    pub aws: AwsClient,
    /// The shard.
    pub shard: ShardName,
    /// Value of the tag `Cluster-name`: orchestrator's name of the cluster, or the shard's name.
    pub cluster: String,
    /// Hint for the choice of MySQL's volumes.
    pub volume: Option<VolumeHint>,
    /// URL of the repository, a tag of the snapshots.
    pub repository: String,
    /// Secrets Manager's entry of the shard, a tag of the snapshots, if there is one.
    pub secret: Option<String>,
    /// The user's own tags of the snapshots.
    pub extra_tags: BTreeMap<String, String>,
    /// Timeouts for AWS.
    pub timeouts: Timeouts,
}

/// Timeouts and poll intervals for AWS.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Longest wait until all blocks of a snapshot are stored.
    pub complete: Duration,
    /// Interval at which that is polled.
    pub poll: Duration,
    /// Longest wait until a change is visible in lists.
    pub listed: Duration,
    /// Interval at which that is polled.
    pub list_poll: Duration,
    /// Age below which an unproven snapshot may belong to a run that is alive.
    pub dead_after: Duration,
    /// Moment on the monotonic clock after which no further freeze begins; `None`: no limit.
    pub last_freeze: Option<Duration>,
    /// Shortest wait before a throttled snapshot is tried again; it doubles, with jitter.
    pub throttled: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            complete: Duration::from_secs(600),
            poll: Duration::from_secs(5),
            listed: Duration::from_secs(60),
            list_poll: Duration::from_secs(2),
            dead_after: Duration::from_secs(300),
            last_freeze: None,
            throttled: Duration::from_secs(2),
        }
    }
}

/// Largest number of freezes for one snapshot, while EC2 throttles the request.
const MAX_FREEZES: u32 = 3;

/// Result of one freeze.
enum Attempt {
    /// The snapshots exist and are proven.
    Taken(Box<TakenSnapshot>, VolumeSet),
    /// EC2 throttled the request; the lock is released.
    Throttled(Error),
}

/// Snapshots of one instance's volumes.
pub struct EbsProvider {
    source: EbsSnapshotSource,
    ec2: Ec2,
    /// Snapshot sets taken by this process: lists lag behind.
    taken: Mutex<BTreeMap<BackupId, VolumeSet>>,
}

impl EbsProvider {
    /// Returns a provider of snapshots of this instance.
    pub fn new(source: EbsSnapshotSource) -> Self {
        let ec2 = Ec2::new(&source.place.aws);
        Self { source, ec2, taken: Mutex::default() }
    }

    /// Everything that may take long or may be refused is done before the lock is requested. Under
    /// the lock there is one call, made once.
    async fn snapshot(&self, run: &BackupId, plan: &EbsPlan) -> Result<Attempt> {
        let ctx = &self.source.ctx;
        let frozen = ctx.step("freeze", self.freeze(plan)).await?;
        let position = frozen.position().clone();
        let tags = self.label(run, plan, &position.gtid_executed).tags();
        let order = plan.order(&tags);
        let bound = frozen.remaining();
        let attempt = ctx.step("image", async { Ok(self.attempt(&order, bound).await) }).await?;
        let taken_at = ctx.host.clock.now();
        let thawed = ctx.step("thaw", frozen.thaw()).await;
        let snapshots = match attempt {
            CreateOutcome::Begun(snapshots) => snapshots,
            CreateOutcome::Rejected(error) => return Err(error),
            CreateOutcome::Throttled(error) => return Ok(Attempt::Throttled(error)),
            CreateOutcome::Unknown(error) => return Err(self.undo_unknown(run, plan, error).await),
        };
        let volumes = plan.volumes_of(&snapshots);
        let proven = match thawed {
            Ok(freeze) => self.prove(plan, &snapshots, &volumes).await.map(|()| freeze),
            Err(error) => Err(error),
        };
        let freeze = match proven {
            Ok(freeze) => freeze,
            Err(error) => return Err(self.undo(&snapshots, error).await),
        };
        let taken = TakenSnapshot {
            snapshot: Snapshot { run: run.clone(), path: PathBuf::new() },
            position,
            freeze,
            lineage: plan.lineage(),
            taken_at,
            broken_tables: plan.server.broken.clone(),
        };
        Ok(Attempt::Taken(Box::new(taken), self.volume_set(&snapshots, volumes)))
    }

    fn volume_set(&self, snapshots: &[EbsSnapshot], volumes: Vec<EbsVolume>) -> VolumeSet {
        VolumeSet {
            snapshot_ids: ec2::ids(snapshots),
            region: self.ec2.region.clone(),
            bytes: snapshots.iter().map(|snapshot| snapshot.gibibytes << 30).sum(),
            volumes,
        }
    }

    /// Freezes and snapshots, and if EC2 throttles the request, waits without the lock and tries
    /// again. EC2 throttles by account and region
    /// (<https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>), so the waits
    /// differ by chance.
    async fn snapshot_in_turn(&self, run: &BackupId, plan: &EbsPlan) -> Result<(TakenSnapshot, VolumeSet)> {
        let (ctx, timeouts) = (&self.source.ctx, &self.source.place.timeouts);
        let mut pause = timeouts.throttled;
        for freeze in 1.. {
            let error = match self.snapshot(run, plan).await? {
                Attempt::Taken(taken, volumes) => return Ok((*taken, volumes)),
                Attempt::Throttled(error) => error,
            };
            let wait = pause + pause.mul_f64(jitter(ctx.host.random.bytes()?));
            let late = timeouts.last_freeze.is_some_and(|last| ctx.host.clock.monotonic() + wait > last);
            if freeze == MAX_FREEZES || late {
                let message =
                    format!("{} (frozen {freeze} times, each time released at once)", error.message);
                return Err(Error { message, ..error });
            }
            let text = format!("the lock is released, since EC2 throttles requests; waiting {wait:.1?}");
            ctx.reporter.notice(&text);
            ctx.host.clock.sleep(wait).await;
            pause *= 2;
        }
        Err(Error::failed("cannot snapshot: no attempt was made"))
    }

    async fn freeze(&self, plan: &EbsPlan) -> Result<Frozen> {
        let source = &self.source;
        let mode = plan.mode.as_ref().map_err(Error::clone)?;
        if source.role == Role::Primary {
            let text = format!("locking the PRIMARY {}: {}", source.endpoint, mode.reason);
            source.ctx.reporter.notice(&text);
        }
        let sessions = MysqlFreezeSessions::new(source.connector.clone(), source.endpoint.clone());
        freeze_locked(&sessions, &source.freeze, &source.ctx).await
    }

    /// Makes the one attempt. It ends before the limit of the lock does, even if AWS does not
    /// answer.
    async fn attempt(&self, order: &ec2::CreateRequest<'_>, bound: Duration) -> CreateOutcome {
        tokio::select! {
            biased;
            attempt = self.ec2.create(order) => attempt,
            () = self.source.ctx.host.clock.sleep(bound) => CreateOutcome::Unknown(
                Error::failed(format!("cannot snapshot {}: no answer within `freeze.hold`", order.instance))
                    .hint("try again; if it happens often, raise `freeze.hold`"),
            ),
        }
    }

    fn label<'a>(
        &'a self,
        run: &'a BackupId,
        plan: &'a EbsPlan,
        gtids: &'a backstop_types::gtid::GtidSet,
    ) -> SnapshotTags<'a> {
        SnapshotTags {
            run,
            shard: &self.source.place.shard,
            cluster: &self.source.place.cluster,
            gtids,
            source: &self.source.endpoint,
            server: plan.server.uuid,
            version: &plan.server.version,
            set: plan.chosen.ids.len(),
            repository: &self.source.place.repository,
            secret: self.source.place.secret.as_deref(),
            extra: &self.source.place.extra_tags,
        }
    }

    /// Checks that the set has exactly the requested volumes, and marks it as proven: the lock
    /// held.
    async fn prove(&self, plan: &EbsPlan, snapshots: &[EbsSnapshot], volumes: &[EbsVolume]) -> Result<()> {
        let mut got: Vec<_> = snapshots.iter().map(|snapshot| snapshot.volume.as_str()).collect();
        got.sort_unstable();
        if got != plan.chosen.ids.iter().map(String::as_str).collect::<Vec<_>>() {
            let message = format!(
                "cannot snapshot {}: EC2 took {} instead of {}",
                plan.instance.id,
                got.join(", "),
                plan.volumes().join(", ")
            );
            return Err(Error::failed(message).hint("check whether a volume is being attached or detached"));
        }
        self.source.ctx.step("prove", confirm::mark_proven(&self.ec2, &self.source, volumes)).await
    }

    async fn undo(&self, snapshots: &[EbsSnapshot], error: Error) -> Error {
        confirm::delete_after(&self.ec2, &ec2::ids(snapshots), error).await
    }

    async fn undo_unknown(&self, run: &BackupId, plan: &EbsPlan, error: Error) -> Error {
        let notice = "the answer of EC2 was lost: looking for snapshots that it may have created";
        self.source.ctx.reporter.notice(notice);
        confirm::delete_unknown(&self.ec2, &self.source, run, plan.chosen.ids.len(), error).await
    }

    fn remembered(&self, run: &BackupId) -> Option<VolumeSet> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    /// Returns the ids of a run's snapshots: remembered by this process, or found by their tag.
    async fn ids_of(&self, run: &BackupId) -> Result<Vec<String>> {
        let tagged = self.ec2.tagged(&[(tags::RUN_TAG, run.as_str())]).await?;
        let known = self.remembered(run).map(|volumes| volumes.snapshot_ids).unwrap_or_default();
        let mut all: Vec<_> = ec2::ids(&tagged).into_iter().chain(known).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }
}

#[async_trait]
impl SnapshotProvider for EbsProvider {
    fn provider(&self) -> &'static str {
        "ebs"
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        match plan::plan(&self.source, &self.ec2).await {
            Ok(plan) => Ok(plan.findings),
            Err(error) if error.kind == ErrorKind::Refused => {
                Ok(vec![Finding::problem("ebs", &error.message, error.hint.unwrap_or_default())])
            }
            Err(error) => Err(error),
        }
    }

    async fn take(&self, run: &BackupId) -> Result<TakenSnapshot> {
        confirm::delete_dead_runs(
            &self.ec2,
            &self.source.place.shard,
            &self.source.place.timeouts,
            self.source.ctx.host.clock.now(),
        )
        .await?;
        let plan = plan::plan(&self.source, &self.ec2).await?;
        plan.refuse_problems(&self.source.endpoint)?;
        let (taken, volumes) = self.snapshot_in_turn(run, &plan).await?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), volumes);
        Ok(taken)
    }

    async fn open(&self, snapshot: &Snapshot) -> Result<SnapshotData> {
        let volumes = self.remembered(&snapshot.run);
        volumes.map(SnapshotData::Volumes).ok_or_else(|| {
            Error::failed(format!("cannot open snapshot {}: this process did not take it", snapshot.run))
        })
    }

    async fn release(&self, snapshot: &Snapshot) -> Result<()> {
        for id in self.ids_of(&snapshot.run).await? {
            self.ec2.delete(&id).await?;
        }
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&snapshot.run);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        let tagged = self.ec2.tagged(&[(tags::SHARD_TAG, self.source.place.shard.as_str())]).await?;
        let named =
            tagged.iter().filter_map(|snapshot| snapshot.tags.get(tags::RUN_TAG)?.parse::<BackupId>().ok());
        let known: Vec<_> =
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let mut runs: Vec<_> = named.chain(known).collect();
        runs.sort();
        runs.dedup();
        Ok(runs.into_iter().map(|run| Snapshot { run, path: PathBuf::new() }).collect())
    }

    async fn changes(&self, _: &Snapshot, _: &Lineage) -> Result<Option<ChangedFiles>> {
        Ok(None)
    }

    fn is_backup(&self) -> bool {
        true
    }

    async fn complete(&self, snapshot: &Snapshot) -> Result<VolumeState> {
        let volumes = self.remembered(&snapshot.run);
        let ids = volumes.map(|volumes| volumes.snapshot_ids).unwrap_or_default();
        let (clock, timeouts) = (&self.source.ctx.host.clock, &self.source.place.timeouts);
        if timeouts.complete.is_zero() {
            return Ok(VolumeState::Pending);
        }
        let begun = clock.monotonic();
        loop {
            let snapshots = self.ec2.described(&ids).await?;
            let passed = clock.monotonic().saturating_sub(begun);
            match set_state(&ids, &snapshots) {
                // A new snapshot may not be listed yet.
                VolumeState::Missing if passed < timeouts.listed => {}
                VolumeState::Pending if passed < timeouts.complete => {}
                state => return Ok(state),
            }
            clock.sleep(timeouts.poll).await;
        }
    }
}

/// Returns a fraction from 0 to 1.
fn jitter(random: [u8; 1]) -> f64 {
    f64::from(random[0]) / f64::from(u8::MAX)
}

/// Returns the state of a set: that of its least advanced snapshot.
pub(crate) fn set_state(ids: &[String], snapshots: &[EbsSnapshot]) -> VolumeState {
    let of =
        |id: &String| snapshots.iter().find(|snapshot| snapshot.id == *id).map(|snapshot| snapshot.state);
    let states: Vec<_> = ids.iter().map(of).collect();
    match () {
        () if states.contains(&Some(EbsSnapshotState::Error)) => VolumeState::Error,
        () if states.is_empty() || states.contains(&None) => VolumeState::Missing,
        () if states.contains(&Some(EbsSnapshotState::Recycled)) => VolumeState::Recycled,
        () if states.contains(&Some(EbsSnapshotState::Pending)) => VolumeState::Pending,
        () if states.contains(&Some(EbsSnapshotState::Archived)) => VolumeState::Archived,
        () => VolumeState::Completed,
    }
}
