//! What is decided once and stays so, however often a rebuild is resumed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backstop_model::report::VolumeState;
use backstop_model::server::{RecordedSettings, ServerVersion};
use backstop_repo::Storage;
use serde::{Deserialize, Serialize};

use super::{
    BackupId, Fault, GtidSet, Kind, Protection, Rebuild, RebuildRequest, Result, ShardName, Wanted,
    current_primary, join,
};

/// EC2 keeps these for data volumes.
const DEVICES: std::ops::RangeInclusive<char> = 'f'..='p';

/// Availability zone to subnet: where an instance may be made.
pub type Subnets = BTreeMap<String, String>;

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub(super) recovery_id: String,
    pub(super) shard: ShardName,
    pub(super) backup_id: BackupId,
    pub(super) target: String,
    pub(super) primary_zone: String,
    pub(super) zone: String,
    pub(super) subnet: String,
    pub(super) snapshots: BTreeMap<String, String>,
    pub(super) gtid_executed: GtidSet,
    pub(super) server_id: u32,
    pub(super) server_version: ServerVersion,
    pub(super) settings: RecordedSettings,
    folder: PathBuf,
}

/// What a rebuild would do, as it is shown before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebuildPlan {
    /// What would name it. Another one is chosen when it is carried out.
    pub recovery_id: String,
    /// The availability zone of the shard's primary.
    pub primary_zone: String,
    /// The availability zone of the new instance.
    pub zone: String,
    /// Its subnet.
    pub subnet: String,
    /// Device name to snapshot id.
    pub snapshots: BTreeMap<String, String>,
}

/// Checks everything that can be known beforehand, and decides what must not change on a resume.
pub(super) async fn decide(r: &Rebuild<'_>) -> Result<Decided> {
    let manifest = r.reader.manifest(&r.request.backup_id).await?;
    let Storage::Ebs { snapshot_ids, region } = &manifest.storage else {
        return Err(Fault::refused(format!("backup {} is no volume snapshot", r.request.backup_id)));
    };
    complete(r, snapshot_ids, region).await?;
    let members = r.topology.look().await?;
    let (endpoint, primary) = current_primary(&members)?;
    join::fits(primary, &manifest.facts.gtid_executed)?;
    let primary_zone = r.hosts.zone(endpoint).await?;
    let (zone, subnet) = place(&r.request.subnets, &primary_zone)?;
    let named = BackupId::new(r.world.clock.now(), (r.world.clock.random() >> 32) as u32);
    Ok(Decided {
        recovery_id: format!("r-{named}"),
        shard: r.request.shard.clone(),
        backup_id: r.request.backup_id.clone(),
        target: r.request.target.clone(),
        primary_zone,
        zone,
        subnet,
        snapshots: devices(snapshot_ids)?,
        gtid_executed: manifest.facts.gtid_executed.clone(),
        server_id: join::server_id(r.world, &members),
        server_version: manifest.facts.server_version.clone(),
        settings: manifest.facts.settings.clone(),
        folder: folder(&r.request)?,
    })
}

/// A volume can be made only from what is complete, and a server only from what was proven.
async fn complete(r: &Rebuild<'_>, snapshot_ids: &[String], region: &str) -> Result<()> {
    let id = &r.request.backup_id;
    let (kind, why, hint) = match r.snapshots.state(snapshot_ids, region).await? {
        VolumeState::Completed => return proven(r).await,
        VolumeState::Pending => {
            (Kind::Refused, "is not complete yet", "wait until `backstop backups` lists it as complete")
        }
        VolumeState::Error => {
            (Kind::Damaged, "failed: EC2 could not store it", "recover from another backup (`--backup ID`)")
        }
        VolumeState::Missing => {
            (Kind::Damaged, "is gone from EC2", "recover from another backup (`--backup ID`)")
        }
    };
    Err(Fault::new(kind, format!("snapshot {} of backup {id} {why}", snapshot_ids.join(", "))).hint(hint))
}

/// A manifest is committed only after the lock was proven to have held; a tag that says otherwise was put there since.
async fn proven(r: &Rebuild<'_>) -> Result<()> {
    let tagged = r.snapshots.tagged(&r.request.shard).await?;
    if tagged.iter().any(|one| one.backup_id == r.request.backup_id) {
        return Ok(());
    }
    let message = format!("the snapshots of backup {} are not tagged as proven", r.request.backup_id);
    Err(Fault::refused(message)
        .hint("see who changed the tag `Backstop-State`, or recover from another backup"))
}

/// The first zone that is not the primary's.
fn place(subnets: &Subnets, primary_zone: &str) -> Result<(String, String)> {
    let other = subnets.iter().find(|(zone, _)| *zone != primary_zone);
    other.map(|(zone, subnet)| (zone.clone(), subnet.clone())).ok_or_else(|| {
        Fault::refused(format!(
            "the primary is in {primary_zone}, and `recovery.subnets` names no other zone"
        ))
        .hint("name a subnet of another availability zone: the loss of one zone should not take both")
    })
}

fn devices(snapshot_ids: &[String]) -> Result<BTreeMap<String, String>> {
    if snapshot_ids.len() > DEVICES.count() {
        return Err(Fault::refused(format!(
            "{} volumes are more than EC2 has devices for",
            snapshot_ids.len()
        )));
    }
    Ok(DEVICES.map(|letter| format!("/dev/sd{letter}")).zip(snapshot_ids.iter().cloned()).collect())
}

fn folder(request: &RebuildRequest) -> Result<PathBuf> {
    use backstop_model::fault::Context;
    Ok(std::path::absolute(&request.into).failed("find the target directory")?.join(".backstop"))
}

impl Decided {
    /// A resumed rebuild must be the one that was begun.
    pub(super) fn is_of(&self, request: &RebuildRequest) -> Result<()> {
        if (&self.shard, &self.target) == (&request.shard, &request.target) {
            return Ok(());
        }
        Err(Fault::refused(format!(
            "{} holds a recovery of {} to `{}` that was begun with other arguments",
            request.into.display(),
            self.shard,
            self.target
        ))
        .hint("give the same arguments to go on with it, or name another directory"))
    }

    /// What is to be made.
    pub(super) fn wanted(&self, protection: Protection) -> Wanted {
        Wanted {
            recovery_id: self.recovery_id.clone(),
            shard: self.shard.clone(),
            primary_zone: self.primary_zone.clone(),
            zone: self.zone.clone(),
            subnet: self.subnet.clone(),
            snapshots: self.snapshots.clone(),
            protection,
            folder: self.folder.clone(),
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    pub(super) fn plan(self) -> RebuildPlan {
        let Self { recovery_id, primary_zone, zone, subnet, snapshots, .. } = self;
        RebuildPlan { recovery_id, primary_zone, zone, subnet, snapshots }
    }
}
