//! The last runs of each operation on a shard: one small object for each, overwritten. Of two runs that end at the very same moment
//! one may be forgotten.

use backstop_model::fault::{Fault, Result};
use backstop_model::runs::{Operation, Run, noted};
use serde::{Deserialize, Serialize};

use crate::log::Log;
use crate::object::{Expected, ObjectFault, ObjectKind};

/// The stored record.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Newest first.
    pub(crate) runs: Vec<Run>,
}

/// The runs of one operation, newest first. A record that cannot be read says nothing: the next run writes another.
pub(crate) async fn read(log: &Log, operation: Operation) -> Result<Vec<Run>> {
    let key = log.keys.runs(operation.name());
    match log.shelf.get(Expected { kind: ObjectKind::Runs, key: &key, reference: None }).await {
        Ok(Record { runs }) => Ok(runs),
        Err(ObjectFault::Missing { .. }) => Ok(Vec::new()),
        Err(ObjectFault::Store(fault)) => Err(fault),
        Err(fault) => {
            tracing::warn!("{}: the last runs are not known", Fault::from(fault));
            Ok(Vec::new())
        }
    }
}

/// Writes a run down, or its newer record.
pub(crate) async fn note(log: &Log, run: Run) -> Result<()> {
    let key = log.keys.runs(run.operation.name());
    let runs = noted(read(log, run.operation).await?, run);
    log.shelf.put_soon(ObjectKind::Runs, &key, &Record { runs }).await
}
