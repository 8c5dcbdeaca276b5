//! History of a shard's last runs. The repository stores it, so that the cause of a failing
//! schedule can be seen without the log of its host.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::finding::Finding;
use crate::ids::ShardName;

/// Number of runs kept for each operation.
pub const MAX_RUNS_KEPT: usize = 16;

/// Longest stored error message, in characters: a server's message may have any length.
const MAX_MESSAGE_CHARS: usize = 2000;

/// The commands that write to a repository, and whose runs are recorded there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// `backup`, by hand, by a timer or by the Lambda function.
    Backup,
    /// `verify`.
    Verify,
    /// `prune --apply`.
    Prune,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 3] = [Self::Backup, Self::Verify, Self::Prune];

    /// Returns the command's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Verify => "verify",
            Self::Prune => "prune",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Record of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The command.
    pub operation: Operation,
    /// Start, by its host's clock.
    pub started: DateTime<Utc>,
    /// End; `None`: it is running, or it was killed.
    pub ended: Option<DateTime<Utc>>,
    /// Its host.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// Cause of its failure; `None`: it succeeded, or has not ended.
    pub failure: Option<RunFailure>,
    /// Short form of its result: a backup's id, the number of damaged objects.
    pub result: Option<String>,
}

/// Cause of a run's failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailure {
    /// The exit code of the command.
    pub exit_code: u8,
    /// The error message.
    pub message: String,
    /// The error's hint.
    pub hint: Option<String>,
}

impl From<&Error> for RunFailure {
    fn from(error: &Error) -> Self {
        let short = |text: &str| text.chars().take(MAX_MESSAGE_CHARS).collect();
        Self {
            exit_code: error.kind.exit_code(),
            message: short(&error.message),
            hint: error.hint.as_deref().map(short),
        }
    }
}

impl RunFailure {
    /// False if the run gave way to another one, or was stopped: the next run may succeed.
    fn is_trouble(&self) -> bool {
        use crate::error::ErrorKind;
        ![ErrorKind::Held, ErrorKind::Interrupted].iter().any(|kind| kind.exit_code() == self.exit_code)
    }
}

impl RunRecord {
    /// True if both are records of one run.
    fn is(&self, other: &Self) -> bool {
        (self.started, &self.host, self.pid) == (other.started, &other.host, other.pid)
    }
}

/// Adds a run, or its newer record, to these runs of one operation. The result is newest first and
/// has at most [`MAX_RUNS_KEPT`] runs.
pub fn record_run(mut runs: Vec<RunRecord>, run: RunRecord) -> Vec<RunRecord> {
    runs.retain(|known| !known.is(&run));
    runs.push(run);
    runs.sort_by_key(|run| std::cmp::Reverse(run.started));
    runs.truncate(MAX_RUNS_KEPT);
    runs
}

/// Returns a finding for each operation whose newest runs failed. `runs` are of one shard, newest
/// first within each operation.
pub fn failure_findings(shard: &ShardName, runs: &[RunRecord]) -> Vec<Finding> {
    Operation::ALL.iter().filter_map(|operation| failure_streak(shard, *operation, runs)).collect()
}

/// Reports the latest consecutive failures. A newest run without an end is skipped, since it may be
/// running; an older one was killed.
fn failure_streak(shard: &ShardName, operation: Operation, runs: &[RunRecord]) -> Option<Finding> {
    let runs = runs.iter().filter(|run| run.operation == operation);
    let known = runs.skip_while(|run| run.ended.is_none());
    let counted = known.filter(|run| run.failure.as_ref().is_none_or(RunFailure::is_trouble));
    let failed: Vec<&RunRecord> =
        counted.take_while(|run| run.failure.is_some() || run.ended.is_none()).collect();
    let (newest, oldest) = (failed.first()?, failed.last()?);
    let failure = newest.failure.as_ref()?;
    let since = oldest.started.to_rfc3339_opts(SecondsFormat::Secs, true);
    let times = match failed.len() {
        1 => format!("the last `backstop {operation} {shard}` failed, at {since} on {}", newest.host),
        many => format!("the last {many} runs of `backstop {operation} {shard}` failed, since {since}"),
    };
    let repeat = format!("correct the cause, and repeat `backstop {operation} {shard}`");
    let todo = failure.hint.clone().unwrap_or(repeat);
    Some(Finding::warning("runs-fail", format!("{times}: {}", failure.message), todo))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + 60 * minute, 0).unwrap()
    }

    fn run(minute: i64, kind: Option<ErrorKind>) -> RunRecord {
        RunRecord {
            operation: Operation::Backup,
            started: at(minute),
            ended: Some(at(minute + 1)),
            host: "db2".to_owned(),
            pid: 7,
            failure: kind.map(|kind| RunFailure::from(&Error::new(kind, format!("reason {minute}")))),
            result: None,
        }
    }

    fn kept(runs: &[RunRecord]) -> Vec<RunRecord> {
        runs.iter().fold(Vec::new(), |kept, run| record_run(kept, run.clone()))
    }

    #[test]
    fn final_record_replaces_the_initial_record() {
        let begun = RunRecord { ended: None, ..run(3, None) };
        let runs = kept(&[run(1, None), begun, run(3, Some(ErrorKind::Failed))]);
        assert_eq!(runs, [run(3, Some(ErrorKind::Failed)), run(1, None)]);
    }

    #[test]
    fn newest_runs_are_kept() {
        let runs = kept(&(0..40).map(|minute| run(minute, None)).collect::<Vec<_>>());
        assert_eq!(
            (runs.len(), runs[0].started, runs[MAX_RUNS_KEPT - 1].started),
            (MAX_RUNS_KEPT, at(39), at(24))
        );
    }

    #[test]
    fn failures_since_the_last_success_are_counted() {
        let shard = "orders".parse().unwrap();
        let killed = RunRecord { ended: None, ..run(3, None) };
        let running = RunRecord { ended: None, ..run(9, None) };
        let runs = kept(&[
            run(0, Some(ErrorKind::Failed)),
            run(1, None),
            run(2, Some(ErrorKind::Denied)),
            killed,
            run(4, Some(ErrorKind::Held)),
            run(5, Some(ErrorKind::Refused)),
            running,
        ]);
        let found = failure_findings(&shard, &runs);
        assert_eq!(found.len(), 1);
        let text = &found[0].what;
        assert!(text.contains("last 3 runs") && text.ends_with("reason 5"), "{text}");
        assert!(text.contains(&at(2).to_rfc3339_opts(SecondsFormat::Secs, true)), "{text}");
        assert_eq!(failure_findings(&shard, &kept(&[run(1, Some(ErrorKind::Failed)), run(2, None)])), []);
        assert_eq!(failure_findings(&shard, &kept(&[run(1, Some(ErrorKind::Held))])), []);
    }

    #[test]
    fn message_is_truncated() {
        let failure = RunFailure::from(&Error::failed("ü".repeat(5000)));
        assert_eq!(failure.message.chars().count(), MAX_MESSAGE_CHARS);
    }
}
