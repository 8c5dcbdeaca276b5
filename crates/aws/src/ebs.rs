//! Snapshots of an EC2 instance's EBS volumes, taken from anywhere: all volumes of MySQL's in one set, in one moment, under
//! the lock. The snapshots are the backup; nothing is read from them.

mod discard;
mod ec2;
#[cfg(test)]
mod frozen;
mod hosts;
mod instance;
mod plan;
mod shelf;
mod tags;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backstop_adapters::mysql::connect::Connector;
use backstop_adapters::mysql::freeze::MysqlFreeze;
use backstop_engine::freeze::{Frozen, freeze_locked};
use backstop_engine::ports::{ChangedFiles, Image, Snapshot, Snapshots, Taken, Volumes};
use backstop_engine::world::World;
use backstop_model::backup::Lineage;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::finding::Finding;
use backstop_model::freeze::FreezeRules;
use backstop_model::ids::{BackupId, Endpoint, ShardName};
use backstop_model::report::VolumeState;
use backstop_model::settings::VolumeHint;
use backstop_model::topology::Role;

use crate::connect::Aws;
use ec2::{Attempt, Ec2, Shot, ShotState};
use plan::Plan;
use tags::Label;

pub use hosts::Ec2Hosts;
pub use instance::HOST_TAG;
pub use shelf::EbsShelf;
pub use tags::{CLUSTER, GTID, PROVEN, RUN, SET, SHARD, SOURCE, STATE, UNPROVEN};
pub use volumes::MOUNT_TAG;

/// The instance whose volumes are to be snapshot, and what that is done with.
#[derive(Clone)]
pub struct EbsSite {
    /// Reaches AWS in the instance's region.
    pub aws: Aws,
    /// Logs in to it.
    pub connector: Connector,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its part in the shard: a primary is only locked if the rules allow it.
    pub role: Role,
    /// How writes may be held.
    pub freeze: FreezeRules,
    /// The shard.
    pub shard: ShardName,
    /// The value of the tag `Cluster-name`: orchestrator's name of the cluster, else the shard's.
    pub cluster: String,
    /// Which volumes are MySQL's.
    pub volume: Option<VolumeHint>,
    /// How long AWS is waited for.
    pub waits: Waits,
    /// Time, reporter, faults.
    pub world: World,
}

/// How long AWS is waited for.
#[derive(Debug, Clone)]
pub struct Waits {
    /// Until all blocks of a snapshot are stored.
    pub complete: Duration,
    /// Between two looks at that.
    pub look: Duration,
    /// Until something that was done is seen in lists.
    pub listed: Duration,
    /// Between two looks at that.
    pub relist: Duration,
    /// Younger unproven snapshots may be of a run that lives.
    pub dead: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            complete: Duration::from_secs(600),
            look: Duration::from_secs(5),
            listed: Duration::from_secs(60),
            relist: Duration::from_secs(2),
            dead: Duration::from_secs(300),
        }
    }
}

/// Snapshots of one instance's volumes.
pub struct Ebs {
    site: EbsSite,
    ec2: Ec2,
    /// What this process took: lists lag behind.
    taken: Mutex<BTreeMap<BackupId, Volumes>>,
}

impl Ebs {
    /// Snapshots of this instance.
    pub fn new(site: EbsSite) -> Self {
        let ec2 = Ec2::new(&site.aws);
        Self { site, ec2, taken: Mutex::default() }
    }

    /// Everything that may take its time or may be refused has been done when the lock is asked for; under it there is one
    /// call, made once.
    async fn snapshot(&self, run: &BackupId, plan: &Plan) -> Result<(Taken, Vec<Shot>)> {
        let world = &self.site.world;
        let frozen = world.step("freeze", self.freeze(plan)).await?;
        let position = frozen.position().clone();
        let tags = self.label(run, plan, &position.gtid_executed).tags();
        let order = plan.order(&tags);
        let bound = frozen.remaining();
        let attempt = world.step("image", async { Ok(self.attempt(&order, bound).await) }).await?;
        let taken_at = world.clock.now();
        let thawed = world.step("thaw", frozen.thaw()).await;
        let shots = match attempt {
            Attempt::Begun(shots) => shots,
            Attempt::Rejected(fault) => return Err(fault),
            Attempt::Unknown(fault) => return Err(self.undo_unknown(run, plan, fault).await),
        };
        let proven = match thawed {
            Ok(freeze) => self.prove(plan, &shots).await.map(|()| freeze),
            Err(fault) => Err(fault),
        };
        let freeze = match proven {
            Ok(freeze) => freeze,
            Err(fault) => return Err(self.undo(&shots, fault).await),
        };
        let lineage = Lineage {
            server_uuid: plan.server.uuid,
            volume: format!("ebs:{}", plan.volumes().join("+")),
            generation: None,
            mark: None,
        };
        let snapshot = Snapshot { run: run.clone(), path: PathBuf::new() };
        let broken_tables = plan.server.broken.clone();
        Ok((Taken { snapshot, position, freeze, lineage, taken_at, broken_tables }, shots))
    }

    async fn freeze(&self, plan: &Plan) -> Result<Frozen> {
        let site = &self.site;
        let mode = plan.mode.as_ref().map_err(Fault::clone)?;
        if site.role == Role::Primary {
            let text = format!("locking the PRIMARY {}: {}", site.endpoint, mode.reason);
            site.world.reporter.notice(&text);
        }
        let sessions = MysqlFreeze::new(site.connector.clone(), site.endpoint.clone());
        freeze_locked(&sessions, &site.freeze, &site.world).await
    }

    /// The one attempt. It ends before the bound of the lock does, whatever AWS does.
    async fn attempt(&self, order: &ec2::Order<'_>, bound: Duration) -> Attempt {
        tokio::select! {
            attempt = self.ec2.create(order) => attempt,
            () = self.site.world.clock.sleep(bound) => Attempt::Unknown(
                Fault::failed(format!("snapshot {}: no answer within the bound of the lock", order.instance))
                    .hint("try again; if it happens often, raise `freeze.hold`: EC2 took longer than that"),
            ),
        }
    }

    fn label<'a>(
        &'a self,
        run: &'a BackupId,
        plan: &'a Plan,
        gtids: &'a backstop_model::gtid::GtidSet,
    ) -> Label<'a> {
        Label {
            run,
            shard: &self.site.shard,
            cluster: &self.site.cluster,
            gtids,
            source: &self.site.endpoint,
            server: plan.server.uuid,
            version: &plan.server.version,
            set: plan.chosen.ids.len(),
        }
    }

    /// The set is what was asked for, and says of itself that the lock held.
    async fn prove(&self, plan: &Plan, shots: &[Shot]) -> Result<()> {
        let mut got: Vec<_> = shots.iter().map(|shot| shot.volume.as_str()).collect();
        got.sort_unstable();
        if got != plan.chosen.ids.iter().map(String::as_str).collect::<Vec<_>>() {
            let message = format!(
                "snapshot {}: EC2 took {} where {} was asked for",
                plan.instance.id,
                got.join(", "),
                plan.volumes().join(", ")
            );
            return Err(Fault::failed(message).hint("see whether a volume is being attached or detached"));
        }
        self.site.world.step("prove", discard::prove(&self.ec2, &self.site, &ec2::ids(shots))).await
    }

    async fn undo(&self, shots: &[Shot], fault: Fault) -> Fault {
        discard::delete(&self.ec2, &ec2::ids(shots), fault).await
    }

    async fn undo_unknown(&self, run: &BackupId, plan: &Plan, fault: Fault) -> Fault {
        self.site.world.reporter.notice("the answer of EC2 got lost: looking for what it may have made");
        discard::search(&self.ec2, &self.site, run, plan.chosen.ids.len(), fault).await
    }

    fn remember(&self, run: &BackupId, shots: &[Shot]) {
        let volumes = Volumes {
            snapshot_ids: ec2::ids(shots),
            region: self.ec2.region.clone(),
            bytes: shots.iter().map(|shot| shot.gibibytes << 30).sum(),
        };
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), volumes);
    }

    fn remembered(&self, run: &BackupId) -> Option<Volumes> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    /// The ids of a run's snapshots, known from having taken them or by their tag.
    async fn ids_of(&self, run: &BackupId) -> Result<Vec<String>> {
        let tagged = self.ec2.tagged(&[(tags::RUN, run.as_str())]).await?;
        let known = self.remembered(run).map(|volumes| volumes.snapshot_ids).unwrap_or_default();
        let mut all: Vec<_> = ec2::ids(&tagged).into_iter().chain(known).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }
}

#[async_trait]
impl Snapshots for Ebs {
    fn provider(&self) -> &'static str {
        "ebs"
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        match plan::plan(&self.site, &self.ec2).await {
            Ok(plan) => Ok(plan.findings),
            Err(fault) if fault.kind == Kind::Refused => {
                Ok(vec![Finding::problem("ebs", &fault.message, fault.hint.unwrap_or_default())])
            }
            Err(fault) => Err(fault),
        }
    }

    async fn take(&self, run: &BackupId) -> Result<Taken> {
        discard::clear_dead(&self.ec2, &self.site.shard, &self.site.waits, self.site.world.clock.now())
            .await?;
        let plan = plan::plan(&self.site, &self.ec2).await?;
        plan.refuse_problems(&self.site.endpoint)?;
        let (taken, shots) = self.snapshot(run, &plan).await?;
        self.remember(run, &shots);
        Ok(taken)
    }

    async fn open(&self, snapshot: &Snapshot) -> Result<Image> {
        let volumes = self.remembered(&snapshot.run);
        volumes.map(Image::Volumes).ok_or_else(|| {
            Fault::failed(format!("open snapshot {}: this process did not take it", snapshot.run))
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
        let tagged = self.ec2.tagged(&[(tags::SHARD, self.site.shard.as_str())]).await?;
        let named = tagged.iter().filter_map(|shot| shot.tags.get(tags::RUN)?.parse::<BackupId>().ok());
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
        let (clock, waits) = (&self.site.world.clock, &self.site.waits);
        let begun = clock.monotonic();
        loop {
            let shots = self.ec2.described(&ids).await?;
            let passed = clock.monotonic().saturating_sub(begun);
            match state(&ids, &shots) {
                // A new snapshot may not be listed yet.
                VolumeState::Missing if passed < waits.listed => {}
                VolumeState::Pending if passed < waits.complete => {}
                state => return Ok(state),
            }
            clock.sleep(waits.look).await;
        }
    }
}

/// How far a set is: as far as its last.
pub(crate) fn state(ids: &[String], shots: &[Shot]) -> VolumeState {
    let of = |id: &String| shots.iter().find(|shot| shot.id == *id).map(|shot| shot.state);
    let states: Vec<_> = ids.iter().map(of).collect();
    match () {
        () if states.contains(&Some(ShotState::Error)) => VolumeState::Error,
        () if states.is_empty() || states.contains(&None) => VolumeState::Missing,
        () if states.contains(&Some(ShotState::Pending)) => VolumeState::Pending,
        () => VolumeState::Completed,
    }
}
