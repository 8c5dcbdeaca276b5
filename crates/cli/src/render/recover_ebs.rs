//! Text output of `recover` for a backup in EBS snapshots, and of its plan.

use backstop_engine::ports::{InfrastructureChanges, VolumeInitialization};
use backstop_engine::recover_ebs::{EbsRecoveryPlan, EbsRecoveryReport};
use backstop_policy::plan::RecoveryPlan;
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::finding::Finding;
use serde::Serialize;

use crate::format;
use crate::text::{RenderText, TextWriter};

/// Output of `recover --plan`.
#[derive(Debug, Serialize)]
pub struct EbsRecoveryPlanned {
    #[serde(flatten)]
    rebuild: EbsRecoveryPlan,
    shard: backstop_types::ids::ShardName,
    target: String,
    backup_id: backstop_types::ids::BackupId,
    why: String,
    findings: Vec<Finding>,
    terraform: InfrastructureChanges,
    #[serde(skip_serializing_if = "Option::is_none")]
    loading: Option<VolumeLoading>,
}

/// Expected time until EC2 has loaded the volumes from their snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeLoading {
    /// Size of all volumes together. EC2 charges for each GiB that it loads at a provisioned rate.
    gib: u64,
    /// Provisioned rate of each volume, in MiB/s; `None`: EC2 loads a block when it is read.
    rate_mibs: Option<u64>,
    /// Seconds until the largest volume is loaded; `None`: unknown.
    seconds: Option<u64>,
}

impl VolumeLoading {
    /// Estimates the time from the volumes, which are loaded side by side, and from the rate that
    /// the root module sets. `None`: the backup did not record its volumes.
    pub fn of(plan: &EbsRecoveryPlan, rate_mibs: Option<u64>) -> Option<Self> {
        let sizes = || plan.volumes.values().map(|volume| volume.size_gib);
        let largest = sizes().max()?;
        let seconds = rate_mibs.filter(|rate| *rate > 0).map(|rate| (largest << 10).div_ceil(rate));
        Some(Self { gib: sizes().sum(), rate_mibs, seconds })
    }

    fn text(&self) -> String {
        match (self.rate_mibs, self.seconds) {
            (Some(rate), Some(seconds)) => format!(
                "at most {} GiB at {rate} MiB/s a volume, {}; EC2 charges for each GiB (aws.amazon.com/ebs/pricing)",
                self.gib,
                format::seconds(seconds as f64)
            ),
            _ => format!("at most {} GiB, each block when it is first read", self.gib),
        }
    }
}

impl EbsRecoveryPlanned {
    /// Combines the plan with the instance that would be created and Terraform's changes.
    pub fn new(
        plan: RecoveryPlan,
        rebuild: EbsRecoveryPlan,
        terraform: InfrastructureChanges,
        loading: Option<VolumeLoading>,
    ) -> Self {
        let RecoveryPlan { shard, target, backup_id, why, findings, .. } = plan;
        Self { rebuild, shard, target, backup_id, why, findings, terraform, loading }
    }
}

impl RenderText for EbsRecoveryPlanned {
    fn render_text(&self, out: &mut TextWriter) {
        let title = format!("A server of shard {} would be made from backup {}.", self.shard, self.backup_id);
        out.line(out.colors.strong(&title));
        let (plan, changes) = (&self.rebuild, &self.terraform);
        let volume = |(device, id): (&String, &String)| match plan.volumes.get(device) {
            Some(volume) => format!("{id} as {device}, {}", properties(volume)),
            None => format!("{id} as {device}"),
        };
        let snapshots: Vec<_> = plan.snapshots.iter().map(volume).collect();
        out.fields([
            ("why", self.why.clone()),
            ("zone", format!("{} (the primary is in {})", plan.zone, plan.primary_zone)),
            ("subnet", plan.subnet.clone()),
            ("volumes from", snapshots.join("; ")),
            (
                "Terraform",
                format!(
                    "{} to add, {} to change, {} to destroy",
                    changes.add, changes.change, changes.destroy
                ),
            ),
        ]);
        self.loading.iter().for_each(|loading| out.fields([("loading", loading.text())]));
        super::findings(out, &self.findings);
        out.blank_line();
        changes.told.iter().for_each(|change| out.line(format!("  {change}")));
    }
}

/// Returns the properties of a volume in a few words.
fn properties(volume: &EbsVolume) -> String {
    let mut parts = vec![format!("{} GiB", volume.size_gib)];
    parts.extend(volume.volume_type.clone());
    parts.extend(volume.provisioned_iops().map(|iops| format!("{iops} IOPS")));
    parts.extend(volume.provisioned_throughput_mib().map(|rate| format!("{rate} MiB/s")));
    if let Some(mount) = volume.mount_points.first() {
        parts.push(format!("on {mount}"));
    }
    parts.join(" ")
}

impl RenderText for EbsRecoveryReport {
    fn render_text(&self, out: &mut TextWriter) {
        let title = format!("A server of shard {} is rebuilt, joined and caught up.", self.shard);
        out.line(out.colors.good(&title));
        let (seconds, made) = (self.seconds, &self.instance);
        let took = [("instance", seconds.materialise), ("server", seconds.start), ("joining", seconds.join)];
        let took: Vec<_> =
            took.iter().map(|(what, long)| format!("{what} {}", format::seconds(*long))).collect();
        out.fields([
            ("from backup", self.backup_id.to_string()),
            ("server", format!("{}, super_read_only", self.server)),
            ("instance", format!("{} in {}", made.instance_id, made.availability_zone)),
            ("volumes", format!("{} ({})", made.volume_ids.join(", "), loading(made.loading))),
            ("recovery", made.recovery_id.clone()),
            ("gtid_executed", self.gtid_executed.to_string()),
            ("took", format!("{} ({})", format::seconds(seconds.total), took.join(", "))),
        ]);
        out.next(&self.next);
    }
}

fn loading(loading: VolumeInitialization) -> String {
    match loading {
        VolumeInitialization::Loaded => "loaded".to_owned(),
        VolumeInitialization::Percent(percent) => format!("loaded to {percent} %"),
        VolumeInitialization::WhenRead => "loaded when read".to_owned(),
    }
}
