//! Text output of `recover` for a backup in EBS snapshots, and of its plan.

use backstop_engine::ports::{InfrastructureChanges, VolumeInitialization};
use backstop_engine::recover_ebs::{EbsRecoveryPlan, EbsRecoveryReport};
use backstop_policy::plan::RecoveryPlan;
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
}

impl EbsRecoveryPlanned {
    /// Combines the plan with the instance that would be created and Terraform's changes.
    pub fn new(plan: RecoveryPlan, rebuild: EbsRecoveryPlan, terraform: InfrastructureChanges) -> Self {
        let RecoveryPlan { shard, target, backup_id, why, findings, .. } = plan;
        Self { rebuild, shard, target, backup_id, why, findings, terraform }
    }
}

impl RenderText for EbsRecoveryPlanned {
    fn render_text(&self, out: &mut TextWriter) {
        let title = format!("A server of shard {} would be made from backup {}.", self.shard, self.backup_id);
        out.line(out.colors.strong(&title));
        let (plan, changes) = (&self.rebuild, &self.terraform);
        let snapshots: Vec<_> =
            plan.snapshots.iter().map(|(device, id)| format!("{id} as {device}")).collect();
        out.fields([
            ("why", self.why.clone()),
            ("zone", format!("{} (the primary is in {})", plan.zone, plan.primary_zone)),
            ("subnet", plan.subnet.clone()),
            ("volumes from", snapshots.join(", ")),
            (
                "Terraform",
                format!(
                    "{} to add, {} to change, {} to destroy",
                    changes.add, changes.change, changes.destroy
                ),
            ),
        ]);
        super::findings(out, &self.findings);
        out.blank_line();
        changes.told.iter().for_each(|change| out.line(format!("  {change}")));
    }
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
