//! Decisions of a rebuild that stay the same, however often it is resumed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ports::HostRecovery;
use backstop_repo::Storage;
use backstop_types::backup::VolumeState;
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::server::{RecordedSettings, ServerVersion};
use backstop_types::topology::Member;
use serde::{Deserialize, Serialize};

use super::{
    BackupId, DestroyProtection, EbsRecovery, EbsRecoveryRequest, Error, ErrorKind, GtidSet, InstanceSpec,
    Result, ShardName, current_primary, join,
};
use crate::context::new_run_id;
use crate::recover::promote;

/// Letters of device names that EC2 reserves for data volumes.
const DEVICE_LETTERS: std::ops::RangeInclusive<char> = 'f'..='p';

/// Subnets by availability zone, in which an instance may be created.
pub type Subnets = BTreeMap<String, String>;

/// Decisions of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EbsRecoveryDecision {
    pub(super) recovery_id: String,
    pub(super) shard: ShardName,
    pub(super) backup_id: BackupId,
    pub(super) target: String,
    pub(super) primary_zone: String,
    pub(super) zone: String,
    pub(super) subnet: String,
    pub(super) snapshots: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) volumes: BTreeMap<String, EbsVolume>,
    pub(super) gtid_executed: GtidSet,
    pub(super) server_id: u32,
    pub(super) server_version: ServerVersion,
    pub(super) settings: RecordedSettings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on_host: Option<HostRecovery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeline: Option<u32>,
    folder: PathBuf,
}

/// Planned instance of a rebuild, as shown before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EbsRecoveryPlan {
    /// Example of the recovery's id. The rebuild itself chooses another one.
    pub recovery_id: String,
    /// The availability zone of the shard's primary.
    pub primary_zone: String,
    /// The availability zone of the new instance.
    pub zone: String,
    /// Subnet of the new instance.
    pub subnet: String,
    /// Snapshot ids by device name.
    pub snapshots: BTreeMap<String, String>,
    /// The volumes that were snapshotted, by device name: the new ones are made like them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, EbsVolume>,
}

/// Checks everything that can be known beforehand, and makes the decisions that must not change on
/// a resume.
pub(super) async fn decide(recovery: &EbsRecovery<'_>) -> Result<EbsRecoveryDecision> {
    let (manifest, request) = (recovery.manifest, &recovery.request);
    let Storage::Ebs { snapshot_ids, region, volumes } = &manifest.storage else {
        return Err(Error::refused(format!("backup {} is not a volume snapshot", request.backup_id)));
    };
    check_complete(recovery, snapshot_ids, region).await?;
    let on_host = request.on_host.clone();
    let (members, primary_zone) = match on_host {
        None => followed_members(recovery).await?,
        Some(_) => remaining_members(recovery).await?,
    };
    let (zone, subnet) = choose_zone(&request.subnets, &primary_zone)?;
    let named = new_run_id(&recovery.ctx.host)?;
    let snapshots = devices(snapshot_ids, volumes)?;
    Ok(EbsRecoveryDecision {
        recovery_id: format!("r-{named}"),
        shard: request.shard.clone(),
        backup_id: request.backup_id.clone(),
        target: request.target.clone(),
        primary_zone,
        zone,
        subnet,
        volumes: by_device(&snapshots, volumes),
        snapshots,
        gtid_executed: manifest.facts.gtid_executed.clone(),
        server_id: join::server_id(recovery.ctx, &members)?,
        server_version: manifest.facts.server_version.clone(),
        settings: manifest.facts.settings.clone(),
        on_host,
        timeline: request.timeline,
        folder: folder(request)?,
    })
}

/// Returns the members and the zone of the primary, which must be able to send what the snapshots
/// lack.
async fn followed_members(recovery: &EbsRecovery<'_>) -> Result<(Vec<Member>, String)> {
    let members = recovery.topology.members().await?;
    let (endpoint, primary) = current_primary(&members)?;
    join::check_followable(primary, &recovery.manifest.facts.gtid_executed)?;
    let zone = recovery.infrastructure.zone(endpoint).await?;
    Ok((members, zone))
}

/// Returns the members that are left and the zone of the primary. All may be lost: then there are
/// none, and the zone is empty. A new primary is refused while a member may live, before an instance
/// is made for it; the instance checks that again.
async fn remaining_members(recovery: &EbsRecovery<'_>) -> Result<(Vec<Member>, String)> {
    let EbsRecovery { topology, ctx, request, .. } = recovery;
    let is_primary = request.on_host.as_ref().is_some_and(|on_host| on_host.ending == "--as-primary");
    let members = match is_primary {
        true => promote::lost_members(*topology, ctx, &request.shard, request.members).await?,
        false => topology.members().await.unwrap_or_default(),
    };
    let zone = match current_primary(&members) {
        Ok((endpoint, _)) => recovery.infrastructure.zone(endpoint).await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    Ok((members, zone))
}

/// Checks that the snapshots are complete and proven, as volumes and server require.
async fn check_complete(recovery: &EbsRecovery<'_>, snapshot_ids: &[String], region: &str) -> Result<()> {
    let id = &recovery.request.backup_id;
    let (kind, why, hint) = match recovery.snapshots.state(snapshot_ids, region).await? {
        VolumeState::Completed => return check_proven(recovery).await,
        VolumeState::Pending => {
            (ErrorKind::Refused, "is not complete yet", "wait until `backstop backups` lists it as complete")
        }
        VolumeState::Error => (
            ErrorKind::Damaged,
            "failed: EC2 could not store it",
            "recover from another backup (`--backup ID`)",
        ),
        VolumeState::Missing => {
            (ErrorKind::Damaged, "is gone from EC2", "recover from another backup (`--backup ID`)")
        }
        VolumeState::Archived => (
            ErrorKind::Refused,
            "is in the archive tier",
            "restore it with `aws ec2 restore-snapshot-tier`, which takes hours, or recover from another backup (`--backup ID`)",
        ),
        VolumeState::Recycled => (
            ErrorKind::Refused,
            "was deleted and is in the recycle bin",
            "restore it with `aws ec2 restore-snapshot-from-recycle-bin`, or recover from another backup (`--backup ID`)",
        ),
    };
    Err(Error::new(kind, format!("snapshot {} of backup {id} {why}", snapshot_ids.join(", "))).hint(hint))
}

/// Checks the tag of the snapshots. A manifest is committed only after the lock was proven to have
/// held; a tag that contradicts it was set later.
async fn check_proven(recovery: &EbsRecovery<'_>) -> Result<()> {
    let tagged = recovery.snapshots.tagged(&recovery.request.shard).await?;
    if tagged.iter().any(|one| one.backup_id == recovery.request.backup_id) {
        return Ok(());
    }
    let message = format!("the snapshots of backup {} are not tagged as proven", recovery.request.backup_id);
    Err(Error::refused(message)
        .hint("find out who changed the tag `Backstop-State`, or recover from another backup"))
}

/// Returns the first zone that is not the primary's.
fn choose_zone(subnets: &Subnets, primary_zone: &str) -> Result<(String, String)> {
    let other = subnets.iter().find(|(zone, _)| *zone != primary_zone);
    other.map(|(zone, subnet)| (zone.clone(), subnet.clone())).ok_or_else(|| {
        Error::refused(format!(
            "the primary is in {primary_zone}, and `recovery.subnets` names no other zone"
        ))
        .hint("name a subnet of another availability zone: the loss of one zone should not take both")
    })
}

/// Gives each snapshot a device name: that of its volume, or the next free one.
fn devices(snapshot_ids: &[String], volumes: &[EbsVolume]) -> Result<BTreeMap<String, String>> {
    let names: Vec<String> = DEVICE_LETTERS.map(|letter| format!("/dev/sd{letter}")).collect();
    let mut devices = BTreeMap::new();
    for volume in volumes.iter().filter(|volume| names.contains(&volume.device)) {
        if snapshot_ids.contains(&volume.snapshot_id) && !devices.contains_key(&volume.device) {
            devices.insert(volume.device.clone(), volume.snapshot_id.clone());
        }
    }
    let named: Vec<String> = devices.values().cloned().collect();
    for id in snapshot_ids.iter().filter(|id| !named.contains(id)) {
        let free = names.iter().find(|name| !devices.contains_key(*name)).ok_or_else(|| {
            Error::refused(format!("EC2 has no device names for {} volumes", snapshot_ids.len()))
        })?;
        devices.insert(free.clone(), id.clone());
    }
    Ok(devices)
}

fn by_device(devices: &BTreeMap<String, String>, volumes: &[EbsVolume]) -> BTreeMap<String, EbsVolume> {
    let volume = |id: &String| volumes.iter().find(|volume| volume.snapshot_id == *id).cloned();
    devices.iter().filter_map(|(device, id)| Some((device.clone(), volume(id)?))).collect()
}

fn folder(request: &EbsRecoveryRequest) -> Result<PathBuf> {
    use backstop_types::error::ResultExt;
    Ok(std::path::absolute(&request.into).failed("cannot find the target directory")?.join(".backstop"))
}

impl EbsRecoveryDecision {
    /// Checks that a resumed rebuild is the one that was begun.
    pub(super) fn is_of(&self, request: &EbsRecoveryRequest) -> Result<()> {
        let ending = |on_host: &Option<HostRecovery>| on_host.as_ref().map(|on_host| on_host.ending.clone());
        let same_ending = ending(&self.on_host) == ending(&request.on_host);
        if same_ending && (&self.shard, &self.target) == (&request.shard, &request.target) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{} holds a recovery of {} to `{}` that was begun with other arguments",
            request.into.display(),
            self.shard,
            self.target
        ))
        .hint("repeat the same arguments to resume it, or name another directory"))
    }

    /// Returns the specification of the instance to create.
    pub(super) fn instance_spec(&self, protection: DestroyProtection) -> InstanceSpec {
        InstanceSpec {
            recovery_id: self.recovery_id.clone(),
            shard: self.shard.clone(),
            primary_zone: self.primary_zone.clone(),
            zone: self.zone.clone(),
            subnet: self.subnet.clone(),
            snapshots: self.snapshots.clone(),
            volumes: self.volumes.clone(),
            protection,
            folder: self.folder.clone(),
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    pub(super) fn plan(self) -> EbsRecoveryPlan {
        let Self { recovery_id, primary_zone, zone, subnet, snapshots, volumes, .. } = self;
        EbsRecoveryPlan { recovery_id, primary_zone, zone, subnet, snapshots, volumes }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn volume(snapshot: &str, device: &str) -> EbsVolume {
        EbsVolume {
            snapshot_id: snapshot.to_owned(),
            volume_id: String::new(),
            device: device.to_owned(),
            mount_points: Vec::new(),
            size_gib: 8,
            volume_type: None,
            iops: None,
            throughput_mib: None,
            kms_key_id: None,
        }
    }

    fn assigned(volumes: &[EbsVolume]) -> Vec<(String, String)> {
        let ids = ["snap-1", "snap-2", "snap-3"].map(str::to_owned);
        devices(&ids, volumes).unwrap().into_iter().collect()
    }

    fn pairs(of: [(&str, &str); 3]) -> Vec<(String, String)> {
        of.map(|(device, id)| (device.to_owned(), id.to_owned())).to_vec()
    }

    #[test]
    fn volumes_get_the_device_that_they_had() {
        let volumes =
            [volume("snap-1", "/dev/sdh"), volume("snap-2", "/dev/sdf"), volume("snap-3", "/dev/sdg")];
        let expected = pairs([("/dev/sdf", "snap-2"), ("/dev/sdg", "snap-3"), ("/dev/sdh", "snap-1")]);
        assert_eq!(assigned(&volumes), expected);
    }

    #[test]
    fn volumes_with_other_devices_get_free_ones() {
        let expected = pairs([("/dev/sdf", "snap-1"), ("/dev/sdg", "snap-2"), ("/dev/sdh", "snap-3")]);
        assert_eq!(assigned(&[]), expected);
        let volumes =
            [volume("snap-1", "/dev/xvda"), volume("snap-2", "/dev/sdg"), volume("snap-3", "/dev/sdg")];
        assert_eq!(assigned(&volumes), expected);
    }

    #[test]
    fn more_volumes_than_devices_are_refused() {
        let ids: Vec<String> = (0..12).map(|number| format!("snap-{number}")).collect();
        assert!(devices(&ids, &[]).is_err());
    }
}
