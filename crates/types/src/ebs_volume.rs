//! An EBS volume as it was when its snapshot was taken: the defaults of the volume that a recovery
//! creates from the snapshot.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Properties of a volume. A property that EC2 did not report is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EbsVolume {
    /// Its snapshot.
    pub snapshot_id: String,
    /// The volume, `vol-…`.
    pub volume_id: String,
    /// Device name in EC2 (`/dev/sdf`).
    pub device: String,
    /// Mount points as the server sees them, from the volume's tag `MySQL-Mount`; empty: not tagged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<String>,
    /// Size in GiB.
    pub size_gib: u64,
    /// Volume type (`gp3`, `io2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    /// Provisioned IOPS, or the baseline of a type that provisions none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u32>,
    /// Throughput in MiB/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_mib: Option<u32>,
    /// ARN of its KMS key; `None`: not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
}

impl EbsVolume {
    /// Returns the IOPS that a new volume of this type may be created with: EC2 accepts them for
    /// `gp3`, `io1` and `io2` only
    /// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html>).
    pub fn provisioned_iops(&self) -> Option<u32> {
        self.iops.filter(|_| matches!(self.volume_type.as_deref(), Some("gp3" | "io1" | "io2")))
    }

    /// Returns the throughput in MiB/s that a new volume of this type may be created with: EC2
    /// accepts it for `gp3` only.
    pub fn provisioned_throughput_mib(&self) -> Option<u32> {
        self.throughput_mib.filter(|_| self.volume_type.as_deref() == Some("gp3"))
    }
}

/// Writes the properties as `key=value` pairs, for a tag.
impl fmt::Display for EbsVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "size={} device={}", self.size_gib, self.device)?;
        let numbers = [("iops", self.iops), ("throughput", self.throughput_mib)];
        if let Some(kind) = &self.volume_type {
            write!(f, " type={kind}")?;
        }
        for (key, value) in numbers.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            write!(f, " {key}={value}")?;
        }
        if !self.mount_points.is_empty() {
            write!(f, " mount={}", self.mount_points.join(","))?;
        }
        self.kms_key_id.iter().try_for_each(|key| write!(f, " key={key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(kind: &str) -> EbsVolume {
        EbsVolume {
            snapshot_id: "snap-1".to_owned(),
            volume_id: "vol-1".to_owned(),
            device: "/dev/sdf".to_owned(),
            mount_points: vec!["/data".to_owned(), "/redo".to_owned()],
            size_gib: 100,
            volume_type: Some(kind.to_owned()),
            iops: Some(4000),
            throughput_mib: Some(250),
            kms_key_id: None,
        }
    }

    #[test]
    fn only_types_that_provision_iops_are_created_with_them() {
        let provisioned = |kind: &str| {
            let volume = volume(kind);
            (volume.provisioned_iops(), volume.provisioned_throughput_mib())
        };
        assert_eq!(provisioned("gp3"), (Some(4000), Some(250)));
        assert_eq!(provisioned("io2"), (Some(4000), None));
        assert_eq!(provisioned("gp2"), (None, None));
        assert_eq!(provisioned("st1"), (None, None));
    }

    #[test]
    fn tag_lists_the_known_properties() {
        assert_eq!(
            volume("gp3").to_string(),
            "size=100 device=/dev/sdf type=gp3 iops=4000 throughput=250 mount=/data,/redo"
        );
    }
}
