//! Chooses the volumes that hold MySQL's data, from the server's paths, the configured hint and the
//! volumes' tags: the file system is not accessible from another host. Refuses if the choice is not
//! certain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backstop_adapters::mysql::server_facts::DataPath;
use backstop_config::settings::VolumeHint;
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::{Error, Result};

/// Tag of a volume with its mount points, as the server sees them, separated by commas.
pub const MOUNT_TAG: &str = "MySQL-Mount";

/// A volume that is attached to the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachedVolume {
    pub(crate) id: String,
    /// Device name in EC2 (`/dev/sdf`).
    pub(crate) device: String,
    pub(crate) is_root: bool,
    pub(crate) gibibytes: u64,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) performance: VolumePerformance,
}

impl AttachedVolume {
    /// Returns the volume as it is, for the recovery from its snapshot.
    pub(crate) fn facts(&self, snapshot_id: &str) -> EbsVolume {
        let performance = self.performance.clone();
        EbsVolume {
            snapshot_id: snapshot_id.to_owned(),
            volume_id: self.id.clone(),
            device: self.device.clone(),
            mount_points: mounts(self).map(|mount| mount.display().to_string()).collect(),
            size_gib: self.gibibytes,
            volume_type: performance.volume_type,
            iops: performance.iops,
            throughput_mib: performance.throughput_mib,
            kms_key_id: performance.kms_key_id,
        }
    }
}

/// Type and performance of a volume, as far as EC2 reports them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VolumePerformance {
    pub(crate) volume_type: Option<String>,
    pub(crate) iops: Option<u32>,
    pub(crate) throughput_mib: Option<u32>,
    pub(crate) kms_key_id: Option<String>,
}

/// Volumes of the set, and the reason for the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenVolumes {
    pub(crate) ids: BTreeSet<String>,
    pub(crate) why: String,
}

/// Chooses the volumes. `paths` are the places where the server keeps data, the data directory
/// first.
///
/// # Errors
/// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) naming the found volumes
/// and the setting or tag to add.
pub(crate) fn choose_volumes(
    instance: &str,
    hint: Option<&VolumeHint>,
    paths: &[DataPath],
    attached: &[AttachedVolume],
) -> Result<ChosenVolumes> {
    let case = VolumeChoice { instance, paths, attached };
    match hint {
        Some(hint) => case.hinted(hint),
        None if attached.iter().any(|volume| volume.tags.contains_key(MOUNT_TAG)) => case.by_mounts(),
        None => case.by_count(),
    }
}

/// Chooses the volumes without the server's paths: all that the tags name, where no hint does.
///
/// # Errors
/// As [`choose_volumes`], except that no path is compared.
pub(crate) fn choose_by_tags(
    instance: &str,
    hint: Option<&VolumeHint>,
    attached: &[AttachedVolume],
) -> Result<ChosenVolumes> {
    let tagged = attached.iter().filter(|volume| mounts(volume).next().is_some());
    let tagged: BTreeSet<_> = tagged.map(|volume| volume.id.clone()).collect();
    if hint.is_some() || tagged.is_empty() {
        return choose_volumes(instance, hint, &[], attached);
    }
    Ok(ChosenVolumes { why: format!("the tags {MOUNT_TAG} name {}", list(&tagged)), ids: tagged })
}

struct VolumeChoice<'a> {
    instance: &'a str,
    paths: &'a [DataPath],
    attached: &'a [AttachedVolume],
}

impl VolumeChoice<'_> {
    fn hinted(&self, hint: &VolumeHint) -> Result<ChosenVolumes> {
        let fits = |volume: &&AttachedVolume| match hint {
            VolumeHint::Tag { key, value } => volume.tags.get(key) == Some(value),
            VolumeHint::Device(device) => volume.device == *device,
        };
        let ids: BTreeSet<_> = self.attached.iter().filter(fits).map(|volume| volume.id.clone()).collect();
        if ids.is_empty() {
            return Err(self.refuse(format!("no volume with {hint} is attached to {}", self.instance)));
        }
        self.whole(ChosenVolumes { why: format!("{hint} names {}", list(&ids)), ids })
    }

    /// Assigns each path to the volume with the deepest mount point above it. Only tagged mount
    /// points are known.
    fn by_mounts(&self) -> Result<ChosenVolumes> {
        let mut ids = BTreeSet::new();
        for place in self.paths {
            let Some(volume) = self.volume_of(&place.path)? else {
                let what =
                    format!("no volume of {} is tagged {MOUNT_TAG} for the {}", self.instance, shown(place));
                return Err(self.refuse(what));
            };
            ids.insert(volume.id.clone());
        }
        Ok(ChosenVolumes {
            why: format!("the tags {MOUNT_TAG} put the server's paths on {}", list(&ids)),
            ids,
        })
    }

    /// Chooses a single volume, which holds everything.
    fn by_count(&self) -> Result<ChosenVolumes> {
        match self.attached {
            [] => Err(self.refuse(format!("{} has no EBS volume", self.instance))),
            [only] => Ok(ChosenVolumes {
                ids: BTreeSet::from([only.id.clone()]),
                why: format!("{} is the only volume of {}", only.id, self.instance),
            }),
            _ => Err(self.refuse(format!("nothing identifies which volume of {} is MySQL's", self.instance))),
        }
    }

    /// Refuses a set that may not include all data of the server.
    fn whole(&self, chosen: ChosenVolumes) -> Result<ChosenVolumes> {
        if self.attached.iter().all(|volume| chosen.ids.contains(&volume.id)) {
            return Ok(chosen);
        }
        let tagged = self.attached.iter().any(|volume| volume.tags.contains_key(MOUNT_TAG));
        for (index, place) in self.paths.iter().enumerate() {
            let known = if tagged { self.volume_of(&place.path)? } else { None };
            match known {
                Some(volume) if chosen.ids.contains(&volume.id) => {}
                Some(volume) => {
                    let what = format!("the {} is on {}, and {}", shown(place), volume.id, chosen.why);
                    return Err(self.refuse(what));
                }
                // The hint is about the data directory and says nothing about other places.
                None if index == 0 => {}
                None => {
                    let what = format!("the {} may be on another volume: {}", shown(place), chosen.why);
                    return Err(self.refuse(what));
                }
            }
        }
        Ok(chosen)
    }

    fn volume_of(&self, path: &Path) -> Result<Option<&AttachedVolume>> {
        let mounts = self.attached.iter().flat_map(|volume| {
            mounts(volume).filter(|mount| path.starts_with(mount)).map(move |mount| (mount, volume))
        });
        let mounts: Vec<_> = mounts.collect();
        let deepest = mounts.iter().map(|(mount, _)| mount.components().count()).max();
        let mut at: Vec<_> =
            mounts.iter().filter(|(mount, _)| Some(mount.components().count()) == deepest).collect();
        at.dedup_by(|(_, one), (_, other)| one.id == other.id);
        match at.as_slice() {
            [] => Ok(None),
            [(_, volume)] => Ok(Some(volume)),
            [(mount, one), (_, other), ..] => {
                let what =
                    format!("{} and {} are both tagged {MOUNT_TAG}={}", one.id, other.id, mount.display());
                Err(self.refuse(what))
            }
        }
    }

    fn refuse(&self, what: String) -> Error {
        let found: Vec<_> = self.attached.iter().map(describe).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        Error::refused(format!("cannot find the volumes of MySQL: {what}; attached are: {found}")).hint(
            format!(
                "tag each volume that MySQL uses with {MOUNT_TAG} = its mount point, or set snapshot.volume \
             ({{ device = \"/dev/sdf\" }}, or {{ tag = \"Key=Value\" }} for one or several)"
            ),
        )
    }
}

fn mounts(volume: &AttachedVolume) -> impl Iterator<Item = PathBuf> {
    let tag = volume.tags.get(MOUNT_TAG).map(String::as_str).unwrap_or_default();
    tag.split(',').map(str::trim).filter(|path| path.starts_with('/')).map(PathBuf::from)
}

fn shown(place: &DataPath) -> String {
    format!("{} {}", place.what, place.path.display())
}

fn list(ids: &BTreeSet<String>) -> String {
    ids.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn describe(volume: &AttachedVolume) -> String {
    let root = if volume.is_root { ", root" } else { "" };
    let mount = volume.tags.get(MOUNT_TAG).map(|mount| format!(", {MOUNT_TAG}={mount}")).unwrap_or_default();
    format!("{} ({}{root}, {} GiB{mount})", volume.id, volume.device, volume.gibibytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Hint, paths of the server, attached volumes, and expected result.
    type Row<'a> = (Option<&'a str>, &'a [&'a str], &'a [AttachedVolume], &'a str);

    fn volume(id: &str, device: &str, tags: &[(&str, &str)]) -> AttachedVolume {
        AttachedVolume {
            id: id.to_owned(),
            device: device.to_owned(),
            is_root: device == "/dev/xvda",
            gibibytes: 8,
            performance: VolumePerformance::default(),
            tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn paths(places: &[&str]) -> Vec<DataPath> {
        let what = |index| if index == 0 { "data directory" } else { "binary log" };
        places.iter().enumerate().map(|(i, path)| DataPath { what: what(i), path: path.into() }).collect()
    }

    fn chosen(hint: Option<&str>, places: &[&str], attached: &[AttachedVolume]) -> Result<String> {
        let hint = hint.map(|text| {
            if text.starts_with('/') { VolumeHint::device(text) } else { VolumeHint::tag(text) }.unwrap()
        });
        choose_volumes("i-1", hint.as_ref(), &paths(places), attached).map(|chosen| list(&chosen.ids))
    }

    #[test]
    fn identified_volumes_are_chosen() {
        let root = volume("vol-r", "/dev/xvda", &[]);
        let data = volume("vol-d", "/dev/sdf", &[("Role", "mysql"), (MOUNT_TAG, "/data")]);
        let logs = volume("vol-l", "/dev/sdg", &[("Role", "mysql"), (MOUNT_TAG, "/logs, /data/redo")]);
        let all = [root.clone(), data.clone(), logs];
        let cases: [Row<'_>; 7] = [
            (None, &["/var/lib/mysql", "/x/binlog"], &[root], "vol-r"),
            (None, &["/data/mysql"], &all, "vol-d"),
            (None, &["/data/mysql", "/logs/binlog"], &all, "vol-d, vol-l"),
            (None, &["/data/mysql", "/data/redo"], &all, "vol-d, vol-l"),
            (Some("Role=mysql"), &["/data/mysql", "/logs/binlog"], &all, "vol-d, vol-l"),
            (Some("/dev/sdf"), &["/data/mysql"], &all, "vol-d"),
            (Some("/dev/sdf"), &["/data/mysql", "/x"], &[data], "vol-d"),
        ];
        for (hint, places, attached, expected) in cases {
            assert_eq!(chosen(hint, places, attached).unwrap(), expected, "{hint:?} {places:?}");
        }
    }

    #[test]
    fn unidentified_volumes_are_refused_with_the_attached_ones() {
        let root = volume("vol-r", "/dev/xvda", &[]);
        let plain = volume("vol-d", "/dev/sdf", &[("Role", "mysql")]);
        let mounted = volume("vol-m", "/dev/sdg", &[(MOUNT_TAG, "/logs")]);
        let twin = volume("vol-t", "/dev/sdh", &[(MOUNT_TAG, "/logs")]);
        let two = [root.clone(), plain.clone()];
        let cases: [Row<'_>; 8] = [
            (None, &["/data"], &[], "has no EBS volume; attached are: none"),
            (None, &["/data"], &two, "nothing identifies which volume of i-1 is MySQL's"),
            (Some("/dev/sdz"), &["/data"], &two, "no volume with device /dev/sdz"),
            (Some("Role=other"), &["/data"], &two, "no volume with tag Role=other"),
            (
                Some("/dev/sdf"),
                &["/data", "/logs/binlog"],
                &two,
                "binary log /logs/binlog may be on another volume",
            ),
            (Some("/dev/sdf"), &["/data", "/logs/b"], &[root.clone(), plain, mounted.clone()], "is on vol-m"),
            (
                None,
                &["/data"],
                &[root.clone(), mounted.clone()],
                "no volume of i-1 is tagged MySQL-Mount for the data",
            ),
            (None, &["/logs/d"], &[root, mounted, twin], "are both tagged MySQL-Mount=/logs"),
        ];
        for (hint, places, attached, expected) in cases {
            let error = chosen(hint, places, attached).unwrap_err();
            assert!(error.message.contains(expected), "{error}");
            assert!(error.hint.unwrap().contains("MySQL-Mount"));
        }
    }
}
