//! Run records: start and outcome of a run, kept in the repository so that `status` can say why a
//! schedule fails.

use std::time::Duration;

use backstop_repo::Repository;
use backstop_types::error::Result;
use backstop_types::ids::ShardName;
use backstop_types::run_history::{Operation, RunFailure, RunRecord};

use crate::context::RunContext;

/// Longest time that a run waits for its record to be written: a missing record must not delay the
/// run.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `work`, and records its outcome; `result` describes it in a few words. A failure to write
/// the record does not affect the run: a caller with read access only keeps none.
///
/// # Errors
/// Returns the errors of `work`.
pub async fn record_run<T>(
    (repository, shard): (&Repository, &ShardName),
    operation: Operation,
    ctx: &RunContext,
    work: impl Future<Output = Result<T>>,
    result: impl FnOnce(&T) -> Option<String>,
) -> Result<T> {
    let begun = RunRecord {
        operation,
        started: ctx.host.clock.now(),
        ended: None,
        host: ctx.host.identity.this_process().host,
        pid: std::process::id(),
        failure: None,
        result: None,
    };
    let note = |run| async {
        let noted = ctx.within(RECORD_TIMEOUT, "cannot write it", repository.note_run(shard, run)).await;
        if let Err(error) = noted {
            tracing::info!("this run is not recorded in the repository: {error}");
        }
    };
    let ((), done) = tokio::join!(note(begun.clone()), work);
    let ended = RunRecord {
        ended: Some(ctx.host.clock.now()),
        failure: done.as_ref().err().map(RunFailure::from),
        result: done.as_ref().ok().and_then(result),
        ..begun
    };
    note(ended).await;
    done
}
