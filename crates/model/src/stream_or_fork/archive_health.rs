//! How an archive and its archiver stand: what `status` and `check` say of them.

use chrono::{DateTime, Utc};

use crate::archive::{ArchiverHeartbeat, Timeline};
use crate::finding::Finding;
use crate::gtid::GtidSet;
use crate::ids::ShardName;

/// An archiver tells every few seconds that it lives; after this many seconds without, it does not.
pub const HEARTBEAT_TIMEOUT_SECONDS: i64 = 30;
/// An archiver that is further behind, in seconds, is not doing its work.
pub const MAX_ARCHIVE_LAG_SECONDS: f64 = 10.0;

/// An archiver compares its source with the archive every second, and tells it every few seconds.
const RECENT_HEARTBEAT_SECONDS: i64 = 10;

/// What is known of an archive.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveHealthInputs<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// What the archiver told last.
    pub alive: Option<&'a ArchiverHeartbeat>,
    /// Everything of the current line, with what came before it. `None`: nothing is archived.
    pub held: Option<&'a GtidSet>,
    /// The lines, in order.
    pub timelines: &'a [Timeline],
    /// What the primary has executed, and what it has purged; `None`: it did not tell.
    pub primary: Option<(&'a GtidSet, &'a GtidSet)>,
    /// The time of day.
    pub now: DateTime<Utc>,
}

/// How many seconds of the primary's commits are not archived: none if all are, else up to everything since the archive last
/// had all. `None` if that is not known.
pub fn archive_rpo_seconds(h: &ArchiveHealthInputs<'_>) -> Option<f64> {
    let (executed, _) = h.primary?;
    let held = h.held?;
    // A primary that lacks what was archived from it counts by other numbers now: until the archiver has looked at it again, its set
    // says nothing. For an instant that is so of one that waits for an acknowledgement too.
    let seen = h.alive.and_then(|told| told.complete_to);
    let recent =
        seen.is_some_and(|seen| h.now.signed_duration_since(seen).num_seconds() <= RECENT_HEARTBEAT_SECONDS);
    if executed.is_subset_of(held) && (recent || held.is_subset_of(executed)) {
        return Some(0.0);
    }
    let told = h.alive?;
    let since = told.complete_to.into_iter().chain(told.last_commit).max()?;
    Some(h.now.signed_duration_since(since).num_milliseconds().max(0) as f64 / 1000.0)
}

/// What is worth saying, in the order of its weight.
pub fn archive_findings(h: &ArchiveHealthInputs<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = lost_findings(h).into_iter().chain(fork_findings(h)).collect();
    findings.push(archiver(h));
    findings.extend(behind(h));
    findings
}

/// The code of the finding that no archiver has run yet: what `status` calls a problem is only the next step for a `check` before a first
/// backup.
pub const NEVER_RAN_CODE: &str = "archiver-never-ran";

fn archiver(h: &ArchiveHealthInputs<'_>) -> Finding {
    let shard = h.shard;
    let todo = format!("start `backstop archive {shard}` (`--systemd` prints a service)");
    let Some(alive) = h.alive else {
        let what = format!("shard {shard} is configured to be archived, and no archiver has run yet");
        return Finding::problem(NEVER_RAN_CODE, what, todo);
    };
    let silent = h.now.signed_duration_since(alive.at).num_seconds();
    match &alive.trouble {
        _ if silent > HEARTBEAT_TIMEOUT_SECONDS => {
            let what =
                format!("the archiver of shard {shard} is not running: no sign of life for {silent} s");
            Finding::problem("archiver-not-running", what, todo)
        }
        Some(trouble) => {
            let what = format!("the archiver of shard {shard} is in trouble: {trouble}");
            Finding::problem("archiver-in-trouble", what, "mend that; it goes on by itself")
        }
        None => Finding::ok("archiver-running", format!("the archiver of shard {shard} is running")),
    }
}

fn behind(h: &ArchiveHealthInputs<'_>) -> Option<Finding> {
    let seconds = archive_rpo_seconds(h)?;
    (seconds > MAX_ARCHIVE_LAG_SECONDS).then(|| {
        Finding::problem(
            "archive-behind",
            format!("the archive of shard {} is {seconds:.0} s behind its primary", h.shard),
            "see what the archiver says, and whether the store and the network keep up",
        )
    })
}

/// What the primary has purged and the archive will never get.
fn lost_findings(h: &ArchiveHealthInputs<'_>) -> Option<Finding> {
    let (_, purged) = h.primary?;
    let missing = purged.subtract(h.held?);
    (!missing.is_empty()).then(|| {
        Finding::problem(
            "archive-gap",
            format!("transactions {missing} of shard {} were purged before they were archived", h.shard),
            format!(
                "take a backup now (`backstop backup {}`), and keep binlogs longer on the source",
                h.shard
            ),
        )
    })
}

/// Only the newest fork: those before it were told in their time.
fn fork_findings(h: &ArchiveHealthInputs<'_>) -> Option<Finding> {
    let timeline = h.timelines.last().filter(|timeline| !timeline.lacks.is_empty())?;
    let parent = timeline.parent.unwrap_or_default();
    Some(Finding::warning(
        "archive-fork",
        format!(
            "server {} was promoted without the archived transactions {}: they are on line {parent} only",
            timeline.source, timeline.lacks
        ),
        format!(
            "recover them with `backstop recover {} --line {parent} --to latest --standalone` and see what must be \
             done again",
            h.shard
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
        let h = ArchiveHealthInputs {
            shard: &"orders".parse().unwrap(),
            alive,
            held: Some(&held),
            timelines: &[],
            primary: Some((&executed, &purged)),
            now: at(now),
        };
        archive_findings(&h).into_iter().map(|finding| finding.code.into_owned()).collect()
    }

    #[test]
    fn who_lives_and_who_lags() {
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
