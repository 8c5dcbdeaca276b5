//! Judges the health of an archive and its archiver for `status` and `check`.

use backstop_types::archive::{ArchiverHeartbeat, Timeline};
use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ShardName;
use chrono::{DateTime, Utc};

/// Time without a heartbeat after which an archiver counts as dead, in seconds. A running archiver
/// writes one every few seconds.
pub const HEARTBEAT_TIMEOUT_SECONDS: i64 = 30;
/// Longest acceptable lag of an archiver, in seconds.
pub const MAX_ARCHIVE_LAG_SECONDS: f64 = 10.0;

/// Age up to which a heartbeat is recent, in seconds. An archiver compares its source with the
/// archive every second, and writes a heartbeat every few seconds.
const RECENT_HEARTBEAT_SECONDS: i64 = 10;

/// Known state of an archive.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveHealthInputs<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// The archiver's last heartbeat.
    pub alive: Option<&'a ArchiverHeartbeat>,
    /// Everything in the current timeline, including what preceded it. `None`: the archive is
    /// empty.
    pub held: Option<&'a GtidSet>,
    /// The timelines, in order.
    pub timelines: &'a [Timeline],
    /// The transactions that the primary has executed and purged; `None`: it did not answer.
    pub primary: Option<(&'a GtidSet, &'a GtidSet)>,
    /// The present time.
    pub now: DateTime<Utc>,
}

/// Computes for how many seconds the primary's commits are not archived: 0 if all are, else the
/// time since the archive last had all. `None` if that is unknown.
pub fn archive_rpo_seconds(inputs: &ArchiveHealthInputs<'_>) -> Option<f64> {
    let (executed, _) = inputs.primary?;
    let held = inputs.held?;
    // A primary that lacks what was archived from it assigns other numbers now: until the archiver
    // has compared it again, its set proves nothing. For an instant the same is true of a primary
    // that waits for an acknowledgement.
    let seen = inputs.alive.and_then(|told| told.complete_to);
    let recent =
        seen.is_some_and(|at| inputs.now.signed_duration_since(at).num_seconds() <= RECENT_HEARTBEAT_SECONDS);
    if executed.is_subset_of(held) && (recent || held.is_subset_of(executed)) {
        return Some(0.0);
    }
    let told = inputs.alive?;
    let since = told.complete_to.into_iter().chain(told.last_commit).max()?;
    Some(inputs.now.signed_duration_since(since).num_milliseconds().max(0) as f64 / 1000.0)
}

/// Returns the findings, the most important first.
pub fn archive_findings(inputs: &ArchiveHealthInputs<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = lost_findings(inputs).into_iter().chain(fork_findings(inputs)).collect();
    findings.push(archiver(inputs));
    findings.extend(behind(inputs));
    findings
}

/// Code of the finding that no archiver has run yet. `status` calls it a problem; for a `check`
/// before the first backup it is only the next step.
pub const NEVER_RAN_CODE: &str = "archiver-never-ran";

fn archiver(inputs: &ArchiveHealthInputs<'_>) -> Finding {
    let shard = inputs.shard;
    let todo = format!("start `backstop archive {shard}` (`--systemd` prints a service)");
    let Some(alive) = inputs.alive else {
        let what = format!("shard {shard} is configured to be archived, and no archiver has run yet");
        return Finding::problem(NEVER_RAN_CODE, what, todo);
    };
    let silent = inputs.now.signed_duration_since(alive.at).num_seconds();
    match &alive.trouble {
        _ if silent > HEARTBEAT_TIMEOUT_SECONDS => {
            let what = format!("the archiver of shard {shard} is not running: no heartbeat for {silent} s");
            Finding::problem("archiver-not-running", what, todo)
        }
        Some(trouble) => {
            let what = format!("the archiver of shard {shard} reports a problem: {trouble}");
            Finding::problem("archiver-in-trouble", what, "correct this; the archiver resumes automatically")
        }
        None => Finding::ok("archiver-running", format!("the archiver of shard {shard} is running")),
    }
}

fn behind(inputs: &ArchiveHealthInputs<'_>) -> Option<Finding> {
    let seconds = archive_rpo_seconds(inputs)?;
    (seconds > MAX_ARCHIVE_LAG_SECONDS).then(|| {
        Finding::problem(
            "archive-behind",
            format!("the archive of shard {} is {seconds:.0} s behind its primary", inputs.shard),
            "check the archiver's log, and whether the store and the network keep up",
        )
    })
}

/// Returns a finding on transactions that the primary purged before they were archived.
fn lost_findings(inputs: &ArchiveHealthInputs<'_>) -> Option<Finding> {
    let (_, purged) = inputs.primary?;
    let missing = purged.subtract(inputs.held?);
    (!missing.is_empty()).then(|| {
        Finding::problem(
            "archive-gap",
            format!("transactions {missing} of shard {} were purged before they were archived", inputs.shard),
            format!(
                "take a backup now (`backstop backup {}`), and keep binlogs longer on the source",
                inputs.shard
            ),
        )
    })
}

/// Returns a finding on the newest fork; earlier forks were reported at their time.
fn fork_findings(inputs: &ArchiveHealthInputs<'_>) -> Option<Finding> {
    let timeline = inputs.timelines.last().filter(|timeline| !timeline.lacks.is_empty())?;
    let parent = timeline.parent.unwrap_or_default();
    Some(Finding::warning(
        "archive-fork",
        format!(
            "server {} was promoted without the archived transactions {}: they are on timeline {parent} only",
            timeline.source, timeline.lacks
        ),
        format!(
            "recover them with `backstop recover {} --line {parent} --to latest --standalone` and check which must be \
             repeated",
            inputs.shard
        ),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).parse().unwrap()
    }

    fn alive(told: i64, complete: i64) -> ArchiverHeartbeat {
        ArchiverHeartbeat {
            at: at(told),
            source: None,
            archived: GtidSet::new(),
            complete_to: Some(at(complete)),
            last_commit: None,
            trouble: None,
        }
    }

    fn codes(
        alive: Option<&ArchiverHeartbeat>,
        held: &str,
        executed: &str,
        purged: &str,
        now: i64,
    ) -> Vec<String> {
        let (held, executed, purged) = (set(held), set(executed), set(purged));
        let inputs = ArchiveHealthInputs {
            shard: &"orders".parse().unwrap(),
            alive,
            held: Some(&held),
            timelines: &[],
            primary: Some((&executed, &purged)),
            now: at(now),
        };
        archive_findings(&inputs).into_iter().map(|finding| finding.code.into_owned()).collect()
    }

    #[test]
    fn archiver_state_follows_its_heartbeat() {
        let one = alive(100, 99);
        assert_eq!(codes(Some(&one), "A:1-9", "A:1-9", "", 104), ["archiver-running"]);
        assert_eq!(codes(Some(&one), "A:1-9", "A:1-9", "", 140), ["archiver-not-running"]);
        assert_eq!(codes(None, "A:1-9", "A:1-9", "", 0), [NEVER_RAN_CODE]);
        let late = alive(100, 80);
        assert_eq!(codes(Some(&late), "A:1-8", "A:1-9", "", 101), ["archiver-running", "archive-behind"]);
        let trouble = ArchiverHeartbeat { trouble: Some("no space".to_owned()), ..alive(100, 99) };
        assert_eq!(codes(Some(&trouble), "A:1-9", "A:1-9", "", 104), ["archiver-in-trouble"]);
        assert_eq!(codes(Some(&one), "A:1-3", "A:1-9", "A:1-5", 100)[0], "archive-gap");
    }
}
