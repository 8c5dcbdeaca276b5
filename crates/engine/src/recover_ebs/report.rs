//! Report of a finished rebuild.

use backstop_types::finding::Finding;
use backstop_types::ids::Endpoint;
use serde::Serialize;

use super::{
    BackupId, CreatedInstance, EbsRecoveryDecision, GtidSet, HostReport, ShardName, VolumeInitialization,
};
use crate::report::RecoverSeconds;

/// Output of `recover --json` for a backup in volume snapshots: the fields of a recovery on this
/// host, and the machines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EbsRecoveryReport {
    /// The shard.
    pub shard: ShardName,
    /// The backup it came from.
    pub backup_id: BackupId,
    /// Target as the user wrote it.
    pub target: String,
    /// GTID set of the server at the hand-over.
    pub gtid_executed: GtidSet,
    /// Number of transactions applied from the archive: none if it joined, since the primary sends
    /// what the snapshots lack.
    pub transactions_replayed: u64,
    /// Address of the server.
    pub server: Endpoint,
    /// True if it replicates from the shard's primary and has caught up.
    pub joined: bool,
    /// The instance it runs on, as EC2 names it.
    pub instance: RecoveredInstance,
    /// Durations of the steps.
    pub seconds: RecoverSeconds,
    /// Next steps for the operator.
    pub next: Vec<String>,
}

/// The created instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveredInstance {
    /// Id of the recovery: names its Terraform state, and the tag `Backstop-Recovery`.
    pub recovery_id: String,
    /// Its id.
    pub instance_id: String,
    /// Its MySQL volumes.
    pub volume_ids: Vec<String>,
    /// Its availability zone.
    pub availability_zone: String,
    /// Progress of loading its volumes from the snapshots.
    pub loading: VolumeInitialization,
}

impl EbsRecoveryReport {
    pub(super) fn of(
        decided: EbsRecoveryDecision,
        made: CreatedInstance,
        recovered: HostReport,
        loading: VolumeInitialization,
        seconds: RecoverSeconds,
    ) -> Self {
        Self {
            next: next(&decided, &made, loading, recovered.next),
            shard: decided.shard,
            backup_id: decided.backup_id,
            target: decided.target,
            gtid_executed: recovered.gtid_executed,
            transactions_replayed: recovered.transactions_replayed,
            server: made.server,
            joined: recovered.joined,
            instance: RecoveredInstance {
                recovery_id: decided.recovery_id,
                instance_id: made.instance_id,
                volume_ids: made.volume_ids,
                availability_zone: decided.zone,
                loading,
            },
            seconds,
        }
    }
}

impl EbsRecoveryReport {
    /// Replaces the first step by what is left of it after orchestrator was waited for.
    pub(super) fn with_listing(mut self, listed: Option<Finding>) -> Self {
        let Some(listed) = listed else { return self };
        self.next[0] = match listed.todo {
            Some(todo) => format!("{}: {todo}", listed.what),
            None => listed.what,
        };
        self
    }
}

fn next(
    decided: &EbsRecoveryDecision,
    made: &CreatedInstance,
    loading: VolumeInitialization,
    on_host: Vec<String>,
) -> Vec<String> {
    let (server, id) = (&made.server, &decided.recovery_id);
    let joined = [
        format!(
            "have orchestrator discover it (`orchestrator-client -c discover -i {server}`); without orchestrator, add it to the shard's `members`"
        ),
        "it is not a candidate primary: register it in orchestrator if it should be one".to_owned(),
        "semi-synchronous replication is as the playbook leaves it: check it if the shard relies on it"
            .to_owned(),
    ];
    let mut next: Vec<String> = match decided.on_host {
        None => joined.into(),
        Some(_) => on_host.into_iter().map(|step| format!("on the instance: {step}")).collect(),
    };
    next.push(format!(
        "to remove it later, set `protected = false` and destroy Terraform's state of recovery {id}"
    ));
    match loading {
        VolumeInitialization::Loaded => {}
        VolumeInitialization::Percent(percent) => {
            next.push(format!("its volumes are loaded to {percent} %: reads are slow until then"));
        }
        VolumeInitialization::WhenRead => next.push(
            "blocks of its volumes are loaded when first read: it is slow at first (docs/aws.md describes how to load them in advance)".to_owned(),
        ),
    }
    next
}
