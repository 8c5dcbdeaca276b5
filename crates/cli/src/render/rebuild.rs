//! `recover` of a backup in EBS snapshots, and its plan.

use backstop_engine::ports::{Changes, Loading};
use backstop_engine::rebuild::{RebuildPlan, RebuildReport};
use backstop_model::finding::Finding;
use backstop_model::plan::RecoveryPlan;
use serde::Serialize;

use crate::human;
use crate::page::{Page, Screen};

/// `recover --plan`.
#[derive(Debug, Serialize)]
pub struct RebuildPlanned {
    #[serde(flatten)]
    rebuild: RebuildPlan,
    shard: backstop_model::ids::ShardName,
    target: String,
    backup_id: backstop_model::ids::BackupId,
    why: String,
    findings: Vec<Finding>,
    terraform: Changes,
}

impl RebuildPlanned {
    /// What would be made, and what Terraform would do for it.
    pub fn new(plan: RecoveryPlan, rebuild: RebuildPlan, terraform: Changes) -> Self {
        let RecoveryPlan { shard, target, backup_id, why, findings, .. } = plan;
        Self { rebuild, shard, target, backup_id, why, findings, terraform }
    }
}

impl Screen for RebuildPlanned {
    fn draw(&self, page: &mut Page) {
        let title = format!("A server of shard {} would be made from backup {}.", self.shard, self.backup_id);
        page.line(page.paint.strong(&title));
        let (plan, changes) = (&self.rebuild, &self.terraform);
        let snapshots: Vec<_> =
            plan.snapshots.iter().map(|(device, id)| format!("{id} as {device}")).collect();
        page.fields([
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
        super::findings(page, &self.findings);
        page.gap();
        changes.told.iter().for_each(|change| page.line(format!("  {change}")));
    }
}

impl Screen for RebuildReport {
    fn draw(&self, page: &mut Page) {
        let title = format!("A server of shard {} is rebuilt, joined and caught up.", self.shard);
        page.line(page.paint.good(&title));
        let (seconds, made) = (self.seconds, &self.instance);
        let took = [("instance", seconds.materialise), ("server", seconds.start), ("joining", seconds.join)];
        let took: Vec<_> =
            took.iter().map(|(what, long)| format!("{what} {}", human::seconds(*long))).collect();
        page.fields([
            ("from backup", self.backup_id.to_string()),
            ("server", format!("{}, super_read_only", self.server)),
            ("instance", format!("{} in {}", made.instance_id, made.availability_zone)),
            ("volumes", format!("{} ({})", made.volume_ids.join(", "), loading(made.loading))),
            ("recovery", made.recovery_id.clone()),
            ("gtid_executed", self.gtid_executed.to_string()),
            ("took", format!("{} ({})", human::seconds(seconds.total), took.join(", "))),
        ]);
        page.next(&self.next);
    }
}

fn loading(loading: Loading) -> String {
    match loading {
        Loading::Loaded => "loaded".to_owned(),
        Loading::Percent(percent) => format!("loaded to {percent} %"),
        Loading::WhenRead => "loaded when read".to_owned(),
    }
}
