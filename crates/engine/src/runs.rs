//! Keeps in the repository when a run began and how it ended, so that `status` can say why a schedule fails.

use std::time::Duration;

use backstop_model::fault::Result;
use backstop_model::ids::ShardName;
use backstop_model::runs::{Failure, Operation, Run};
use backstop_repo::Repository;

use crate::host::host_name;
use crate::world::World;

/// Longest that a run waits for its record to be written: the record is a courtesy, the run is not.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does `work`, and keeps how it went; `result` says it in a few words. A record that cannot be written changes nothing about the
/// run: whoever may only read keeps none.
///
/// # Errors
/// Those of `work`.
pub async fn kept<T>(
    (repository, shard): (&Repository, &ShardName),
    operation: Operation,
    world: &World,
    work: impl Future<Output = Result<T>>,
    result: impl FnOnce(&T) -> Option<String>,
) -> Result<T> {
    let begun = Run {
        operation,
        started: world.clock.now(),
        ended: None,
        host: host_name(),
        pid: std::process::id(),
        failure: None,
        result: None,
    };
    let note = |run| async {
        let noted = world.within(PATIENCE, "note the run", repository.note_run(shard, run)).await;
        if let Err(fault) = noted {
            tracing::info!("this run is not kept in the repository: {fault}");
        }
    };
    let ((), done) = tokio::join!(note(begun.clone()), work);
    let ended = Run {
        ended: Some(world.clock.now()),
        failure: done.as_ref().err().map(Failure::from),
        result: done.as_ref().ok().and_then(result),
        ..begun
    };
    note(ended).await;
    done
}
