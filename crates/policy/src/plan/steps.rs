//! Steps of a recovery, in order, shown before anything changes.

use std::path::PathBuf;

use backstop_types::backup::Sizes;
use backstop_types::ids::ShardName;
use backstop_types::listen_address::ListenAddress;
use serde::{Deserialize, Serialize};

use super::{ChosenBackup, PlanStep, RecoveryChoice, RecoveryPlan, Replay};
use crate::recovery_target::RecoveryTarget;

/// Input of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// The shard.
    pub shard: ShardName,
    /// The target.
    pub target: RecoveryTarget,
    /// The target directory; `None` to show only the choice of the backup.
    pub into: Option<PathBuf>,
    /// Port of the server, if configured.
    pub port: Option<u16>,
    /// Addresses on which it listens in service, if other than loopback.
    pub listen: Option<ListenAddress>,
    /// The ending.
    pub ending: Ending,
    /// Size of the backup.
    pub sizes: Sizes,
}

/// Ending of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// A standalone read-only server.
    Standalone,
    /// A replica of the shard's current primary, caught up.
    Join,
    /// The shard's new primary, after all its servers were lost.
    AsPrimary,
}

/// Returns the plan for a chosen backup and its replay.
pub fn recovery_plan(request: &PlanRequest, decided: &RecoveryChoice<'_>) -> RecoveryPlan {
    let chosen = &decided.chosen;
    let replay = decided.replay.as_ref().filter(|replay| !replay.gtids.is_empty()).map(replaying);
    let own = if replay.is_some() || request.ending != Ending::Standalone {
        describe_binary_logs()
    } else {
        Vec::new()
    };
    let (before, after) = match request.ending {
        Ending::Standalone => (Vec::new(), Vec::new()),
        Ending::Join => (joining(), Vec::new()),
        Ending::AsPrimary => (vec![alone()], promoting(decided.replay.as_ref())),
    };
    let local = local(request, chosen);
    let steps =
        [local, own, replay.unwrap_or_default(), before, vec![serve(request)], after, last(request.ending)]
            .concat();
    RecoveryPlan {
        shard: request.shard.clone(),
        target: request.target.to_string(),
        backup_id: chosen.backup.backup_id.clone(),
        taken_at: chosen.backup.taken_at,
        gtid_executed: decided
            .replay
            .as_ref()
            .map_or_else(|| chosen.backup.gtid_executed.clone(), Replay::reached),
        replay: decided.replay.clone(),
        why: chosen.why.clone(),
        data_bytes: request.sizes.data_bytes,
        ending: request.ending,
        endings: Vec::new(),
        steps,
        latest: None,
        findings: Vec::new(),
    }
}

fn local(request: &PlanRequest, chosen: &ChosenBackup<'_>) -> Vec<PlanStep> {
    let into =
        request.into.as_ref().map_or("the target directory".to_owned(), |into| into.display().to_string());
    let port = request.port.map_or("a free port".to_owned(), |port| format!("port {port}"));
    let (id, mib) = (&chosen.backup.backup_id, request.sizes.data_bytes.div_ceil(1 << 20));
    vec![
        step("decide", format!("Check that {into} can be used and has enough space; choose {port} and a server id.")),
        step("materialise", format!("Write backup {id} ({mib} MiB) to {into}/data.")),
        step("configure", format!("Write {into}/my.cnf: the donor's settings without its identity.")),
        step("start", "Start the server on loopback, read-only, without replication and events; wait for its crash recovery.".to_owned()),
        step("verify", "Compare the server's own gtid_executed with the backup's; stop on any difference.".to_owned()),
        step("forget", "Remove the donor's replication settings.".to_owned()),
        step("check", "Check the tables.".to_owned()),
    ]
}

/// Describes the steps that remove the donor's binary logs and set `gtid_purged`.
fn describe_binary_logs() -> Vec<PlanStep> {
    let step = |name, what: &str| step(name, what.to_owned());
    vec![
        step(
            "reset_gtids",
            "Reset the binary logs and gtid_executed, if the backup contains the donor's binary logs.",
        ),
        step("set_gtid_purged", "Set gtid_purged to the backup's set, if it was reset."),
    ]
}

fn replaying(replay: &Replay) -> Vec<PlanStep> {
    let (count, mib) = (replay.transactions, replay.bytes.div_ceil(1 << 20));
    let what = format!(
        "Replicate {count} transactions from {} segments ({mib} MiB) of timeline {} of the archive, through a binlog server on loopback.",
        replay.segments, replay.timeline
    );
    let exact = "Compare gtid_executed with the plan's set, which must be equal; remove the binlog server.";
    vec![
        step("relax", "Relax the server's durability, and let appliers run in parallel.".to_owned()),
        step("replay", what),
        step("restore_settings", "Restore the settings, and make everything durable.".to_owned()),
        step("verify_replay", exact.to_owned()),
    ]
}

fn joining() -> Vec<PlanStep> {
    let step = |name, what: &str| step(name, what.to_owned());
    vec![
        step("follow", "Follow the shard's current primary with auto-position."),
        step("catch_up", "Wait until all of the primary's transactions are applied."),
        step("semi_sync", "Enable semi-synchronous acknowledgements, if the other replicas send them."),
    ]
}

fn serve(request: &PlanRequest) -> PlanStep {
    let file = "Write the option file for service.";
    let what = match &request.listen {
        None => format!("{file} The server is not restarted, and listens on loopback only."),
        Some(listen) => format!(
            "{file} Restart the server with it, once, to listen on {listen}; verify that it has lost nothing."
        ),
    };
    step("serve", what)
}

fn promoting(replay: Option<&Replay>) -> Vec<PlanStep> {
    let timeline =
        "Begin a new timeline of the archive with this server; later transactions stay on the old one.";
    let timeline = replay.map(|_| step("begin_line", timeline.to_owned()));
    let follow = step("follow_events", "Determine which events were enabled on the primary.".to_owned());
    let writable = step("promote", "Make the server writable, now and after a restart.".to_owned());
    let events = "Enable the events that were enabled on the primary, and the scheduler if it ran; with --events print, print the statements.";
    [follow].into_iter().chain(timeline).chain([writable, step("events", events.to_owned())]).collect()
}

fn alone() -> PlanStep {
    let what = "Verify again that no configured member answers, unless --force-as-primary is given.";
    step("alone", what.to_owned())
}

fn last(ending: Ending) -> Vec<PlanStep> {
    let finish = match ending {
        Ending::Standalone => "Leave the server read-only, outside of the shard.",
        Ending::Join => "Leave the server read-only, as a replica.",
        Ending::AsPrimary => "Read the server's GTID set.",
    };
    let hand_over = "Remove the temporary administrator account and hand the running server over.";
    vec![step("finish", finish.to_owned()), step("hand_over", hand_over.to_owned())]
}

fn step(name: &'static str, what: String) -> PlanStep {
    PlanStep { name, what }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::backup::BackupRef;
    use backstop_types::ids::BackupId;

    use super::super::choose_backup;
    use super::*;

    #[test]
    fn plan_lists_every_step() {
        let taken_at = "2026-11-20T23:55:00Z".parse().unwrap();
        let backup = BackupRef {
            backup_id: BackupId::new(taken_at, 1),
            taken_at,
            gtid_executed: "".parse().unwrap(),
            on_timeline: None,
        };
        let mut request = PlanRequest {
            shard: "orders".parse().unwrap(),
            target: RecoveryTarget::Latest,
            into: Some("/srv/new".into()),
            port: Some(3307),
            listen: None,
            ending: Ending::Standalone,
            sizes: Sizes { data_bytes: 4096, ..Sizes::default() },
        };
        let backups = [backup];
        let chosen = choose_backup(&request.shard, &backups, &RecoveryTarget::Latest, None).unwrap();
        let chosen = RecoveryChoice { chosen, replay: None };
        let names = |plan: &RecoveryPlan| plan.steps.iter().map(|step| step.name).collect::<Vec<_>>();
        let alone = recovery_plan(&request, &chosen);
        assert!(!names(&alone).contains(&"follow"));
        assert!(alone.steps[0].what.contains("/srv/new") && alone.steps[0].what.contains("port 3307"));
        request.ending = Ending::Join;
        let join = names(&recovery_plan(&request, &chosen));
        let position = |name| join.iter().position(|step| *step == name).unwrap();
        assert!(position("verify") < position("reset_gtids") && position("follow") < position("catch_up"));
        assert!(position("catch_up") < position("serve"));
        assert_eq!(join.last(), Some(&"hand_over"));
        request.ending = Ending::AsPrimary;
        let primary = names(&recovery_plan(&request, &chosen));
        let position = |name| primary.iter().position(|step| *step == name).unwrap();
        assert!(position("check") < position("alone") && position("alone") < position("serve"));
        assert!(position("serve") < position("promote"));
        request.listen = Some("10.7.0.4".parse().unwrap());
        let listening = recovery_plan(&request, &chosen);
        assert!(listening.steps.iter().any(|step| step.name == "serve" && step.what.contains("10.7.0.4")));
        assert!(!primary.contains(&"begin_line"), "nothing is archived");
        let json = serde_json::to_value(&alone).unwrap();
        assert_eq!(json["steps"][1]["name"], "materialise");
    }
}
