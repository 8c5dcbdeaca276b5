//! Ends of backups in EBS snapshots: one small object per backup, created once. It is separate from
//! the log, since EC2 reports the end at any time: before the commit, or while another run holds
//! the lease.

use backstop_types::completion::Completion;
use backstop_types::error::{Error, Result};
use backstop_types::ids::BackupId;

use crate::encrypted_store::Created;
use crate::object::{ExpectedObject, ObjectError, ObjectKind};
use crate::shard_log::ShardLog;

/// Returns the recorded end of a backup. An unreadable record counts as none: the next check of its
/// snapshots writes another.
pub(crate) async fn read_completion(log: &ShardLog, id: &BackupId) -> Result<Option<Completion>> {
    match read(log, id).await {
        Ok(completion) => Ok(Some(completion)),
        Err(ObjectError::Missing { .. }) => Ok(None),
        Err(ObjectError::Store(error)) => Err(error),
        Err(error) => {
            tracing::warn!("{}: the recorded end of backup {id} is unknown", Error::from(error));
            Ok(None)
        }
    }
}

/// Records the end of a backup, unless a readable record exists. Returns the record that counts.
pub(crate) async fn record_completion(log: &ShardLog, completion: Completion) -> Result<Completion> {
    let key = log.keys.completion(&completion.backup_id);
    match log.store.create(ObjectKind::Completion, &key, &completion).await? {
        Created::Yes(_) => Ok(completion),
        Created::Exists => match read_completion(log, &completion.backup_id).await? {
            Some(earlier) => Ok(earlier),
            None => {
                log.store.put(ObjectKind::Completion, &key, &completion).await?;
                Ok(completion)
            }
        },
    }
}

async fn read(log: &ShardLog, id: &BackupId) -> Result<Completion, ObjectError> {
    let key = log.keys.completion(id);
    let expected = ExpectedObject { kind: ObjectKind::Completion, key: &key, reference: None };
    let completion: Completion = log.store.get(expected).await?;
    if completion.backup_id != *id {
        return Err(ObjectError::damaged(&key, "it is the end of another backup"));
    }
    Ok(completion)
}
