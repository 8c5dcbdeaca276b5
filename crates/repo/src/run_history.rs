//! Last runs of each operation on a shard: one small object per operation, overwritten each time.
//! If two runs end at the very same moment, the record of one may be lost.

use backstop_types::error::{Error, Result};
use backstop_types::run_history::{Operation, RunRecord, record_run};
use serde::{Deserialize, Serialize};

use crate::object::{ExpectedObject, ObjectError, ObjectKind};
use crate::shard_log::ShardLog;

/// Stored record.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct RunsObject {
    /// Newest first.
    pub(crate) runs: Vec<RunRecord>,
}

/// Returns the runs of one operation, newest first. An unreadable record counts as empty: the next
/// run writes another.
pub(crate) async fn read_runs(log: &ShardLog, operation: Operation) -> Result<Vec<RunRecord>> {
    let key = log.keys.runs(operation.name());
    match log.store.get(ExpectedObject { kind: ObjectKind::Runs, key: &key, reference: None }).await {
        Ok(RunsObject { runs }) => Ok(runs),
        Err(ObjectError::Missing { .. }) => Ok(Vec::new()),
        Err(ObjectError::Store(error)) => Err(error),
        Err(error) => {
            tracing::warn!("{}: the last runs are unknown", Error::from(error));
            Ok(Vec::new())
        }
    }
}

/// Records a run, or replaces its older record.
pub(crate) async fn store_run(log: &ShardLog, run: RunRecord) -> Result<()> {
    let key = log.keys.runs(run.operation.name());
    let runs = record_run(read_runs(log, run.operation).await?, run);
    log.store.put_with_timeout(ObjectKind::Runs, &key, &RunsObject { runs }).await
}
