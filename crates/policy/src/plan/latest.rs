//! Age of `latest`: the age of the archive's end, and the archiver's last heartbeat.

use backstop_types::archive::ArchiverHeartbeat;
use backstop_types::finding::Finding;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;

use crate::stream_or_fork::{HEARTBEAT_TIMEOUT_SECONDS, MAX_ARCHIVE_LAG_SECONDS};

/// Age of `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LatestAge {
    /// The latest known commit in it; `None`: no commit is archived.
    pub last_commit: Option<DateTime<Utc>>,
    /// Seconds since that commit.
    pub last_commit_age_seconds: Option<i64>,
    /// Time of the last heartbeat, by the archiver's clock; `None`: no heartbeat, or the archive is
    /// empty.
    pub archiver_seen: Option<DateTime<Utc>>,
    /// Seconds since then.
    pub archiver_silent_seconds: Option<i64>,
    /// Every commit of the archiver's source up to this time is known to be archived.
    pub complete_to: Option<DateTime<Utc>>,
    /// Lag of the archive behind its source at the last heartbeat, in seconds; `None`: unknown.
    pub behind_seconds: Option<i64>,
    /// The error in the last heartbeat.
    pub trouble: Option<String>,
}

impl LatestAge {
    /// Computes the age of the end of the archive's current timeline.
    pub fn of_archive(
        last_commit: Option<DateTime<Utc>>,
        alive: Option<&ArchiverHeartbeat>,
        now: DateTime<Utc>,
    ) -> Self {
        let complete_to = alive.and_then(|alive| alive.complete_to);
        Self {
            last_commit,
            last_commit_age_seconds: last_commit.map(|at| seconds(now - at)),
            archiver_seen: alive.map(|alive| alive.at),
            archiver_silent_seconds: alive.map(|alive| seconds(now - alive.at)),
            complete_to,
            behind_seconds: alive.zip(complete_to).map(|(alive, to)| seconds(alive.at - to)),
            trouble: alive.and_then(|alive| alive.trouble.clone()),
        }
    }

    /// Describes the age in a sentence; the severity follows the doubt.
    pub fn finding(&self) -> Finding {
        let (what, todo) =
            (self.to_string(), "check `backstop status`; transactions committed since then are not in it");
        match () {
            () if self.archiver_silent_seconds.is_none_or(|silent| silent > HEARTBEAT_TIMEOUT_SECONDS) => {
                Finding::problem("archiver-silent", what, todo)
            }
            () if self.trouble.is_some() => Finding::problem("archiver-in-trouble", what, todo),
            () if self.behind_seconds.is_none_or(|behind| behind as f64 > MAX_ARCHIVE_LAG_SECONDS) => {
                Finding::problem("archive-behind", what, todo)
            }
            () => Finding::ok("latest", what),
        }
    }
}

impl std::fmt::Display for LatestAge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.last_commit.zip(self.last_commit_age_seconds) {
            Some((at, age)) => {
                write!(f, "latest = the last commit archived, at {}, {} ago", text(at), span(age))?
            }
            None => write!(f, "latest = the newest backup: no later commit is archived")?,
        }
        let Some((seen, silent)) = self.archiver_seen.zip(self.archiver_silent_seconds) else {
            return write!(f, "; no archiver has sent a heartbeat");
        };
        write!(f, "; the archiver's last heartbeat was at {}", text(seen))?;
        if silent > HEARTBEAT_TIMEOUT_SECONDS {
            write!(f, ", and there has been NO HEARTBEAT for {}", span(silent))?;
        }
        match self.behind_seconds {
            Some(0) => write!(f, "; it was up to date then")?,
            Some(behind) => write!(f, "; it was behind by {}", span(behind))?,
            None => write!(f, "; its delay is unknown")?,
        }
        match &self.trouble {
            Some(trouble) => write!(f, "; it reported a problem: {trouble}"),
            None => Ok(()),
        }
    }
}

/// Returns the finding for `latest` without an archive: the newest backup.
pub fn newest_backup(taken_at: DateTime<Utc>, now: DateTime<Utc>) -> Finding {
    let age = span(seconds(now - taken_at));
    Finding::ok(
        "latest",
        format!("latest = the newest backup, of {}, {age} ago; nothing is archived", text(taken_at)),
    )
}

/// Returns the seconds, at least 0: the clocks of two hosts may differ.
fn seconds(span: TimeDelta) -> i64 {
    span.num_seconds().max(0)
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Formats seconds as `40 s`, `27 min`, `3 h 5 min`, `2 d 4 h`.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::finding::Severity;
    use backstop_types::gtid::GtidSet;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn alive(told: i64, complete: Option<i64>, trouble: Option<&str>) -> ArchiverHeartbeat {
        ArchiverHeartbeat {
            at: at(told),
            source: None,
            archived: GtidSet::new(),
            complete_to: complete.map(at),
            last_commit: None,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn latest_states_its_age_and_warns_when_in_doubt() {
        let now = 2000;
        let cases = [
            (Some(alive(1998, Some(1998), None)), Severity::Ok, "latest", "it was up to date then"),
            (Some(alive(1998, Some(1990), None)), Severity::Ok, "latest", "it was behind by 8 s"),
            (
                Some(alive(1998, Some(1957), None)),
                Severity::Problem,
                "archive-behind",
                "it was behind by 41 s",
            ),
            (Some(alive(1998, None, None)), Severity::Problem, "archive-behind", "its delay is unknown"),
            (
                Some(alive(380, Some(380), None)),
                Severity::Problem,
                "archiver-silent",
                "NO HEARTBEAT for 27 min",
            ),
            (
                Some(alive(1998, Some(1990), Some("no primary"))),
                Severity::Problem,
                "archiver-in-trouble",
                "reported a problem: no primary",
            ),
            (None, Severity::Problem, "archiver-silent", "no archiver has sent a heartbeat"),
        ];
        for (alive, severity, code, says) in cases {
            let latest = LatestAge::of_archive(Some(at(1700)), alive.as_ref(), at(now));
            let finding = latest.finding();
            assert_eq!((finding.severity, finding.code.as_ref()), (severity, code), "{}", finding.what);
            assert!(finding.what.contains(says), "{says}: {}", finding.what);
            assert!(finding.what.contains("5 min ago"), "{}", finding.what);
        }
    }

    #[test]
    fn latest_age_does_not_count_silence_twice() {
        let told = alive(380, Some(339), None);
        let latest = LatestAge::of_archive(Some(at(300)), Some(&told), at(2000));
        assert_eq!(
            (latest.last_commit_age_seconds, latest.archiver_silent_seconds),
            (Some(1700), Some(1620))
        );
        assert_eq!(latest.behind_seconds, Some(41), "as it was when it was told");
        let ahead = LatestAge::of_archive(Some(at(2001)), Some(&alive(2005, Some(2005), None)), at(2000));
        assert_eq!((ahead.last_commit_age_seconds, ahead.archiver_silent_seconds), (Some(0), Some(0)));
        assert!(newest_backup(at(0), at(100_000)).what.contains("27 h 46 min ago; nothing is archived"));
    }
}
