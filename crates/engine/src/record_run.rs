//! Keeps in the repository when a run began and how it ended, so that `status` can say why a schedule fails.

use std::time::Duration;

use backstop_model::error::Result;
use backstop_model::ids::ShardName;
use backstop_model::run_history::{Operation, RunFailure, RunRecord};
use backstop_repo::Repository;

use crate::context::RunContext;
use crate::shard_dir::host_name;

/// Longest that a run waits for its record to be written: the record is a courtesy, the run is not.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Does `work`, and keeps how it went; `result` says it in a few words. A record that cannot be written changes nothing about the
/// run: whoever may only read keeps none.
///
/// # Errors
/// Those of `work`.
pub async fn record_run<T>(
    (repository, shard): (&Repository, &ShardName),
    operation: Operation,
    ctx: &RunContext,
    work: impl Future<Output = Result<T>>,
    result: impl FnOnce(&T) -> Option<String>,
) -> Result<T> {
    let begun = RunRecord {
        operation,
        started: ctx.clock.now(),
        ended: None,
        host: host_name(),
        pid: std::process::id(),
        failure: None,
        result: None,
    };
    let note = |run| async {
        let noted = ctx.within(RECORD_TIMEOUT, "note the run", repository.note_run(shard, run)).await;
        if let Err(error) = noted {
            tracing::info!("this run is not kept in the repository: {error}");
        }
    };
    let ((), done) = tokio::join!(note(begun.clone()), work);
    let ended = RunRecord {
        ended: Some(ctx.clock.now()),
        failure: done.as_ref().err().map(RunFailure::from),
        result: done.as_ref().ok().and_then(result),
        ..begun
    };
    note(ended).await;
    done
}
