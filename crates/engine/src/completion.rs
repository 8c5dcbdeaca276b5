//! End of a backup whose data EC2 stores in the background: recorded in the repository, then marked
//! on the snapshots. The mark comes last, so that a sweep finds what was interrupted.

use backstop_repo::ShardReader;
use backstop_types::completion::{Completion, CompletionOutcome};
use backstop_types::error::Result;

use crate::ports::VolumeSnapshots;

/// Records the end of a backup, and marks its snapshots. An earlier record stays, and is returned:
/// events may come twice.
///
/// # Errors
/// Returns the errors of the store and of EC2.
pub async fn record_completion(
    reader: &ShardReader,
    volumes: &dyn VolumeSnapshots,
    region: &str,
    completion: Completion,
) -> Result<Completion> {
    let recorded = reader.note_completion(completion).await?;
    volumes.mark_completion(&recorded.snapshot_ids, region, recorded.outcome).await?;
    Ok(recorded)
}

/// Reason why a backup with a recorded failure cannot be recovered.
pub(crate) fn failure(completion: &Completion) -> Option<String> {
    (completion.outcome == CompletionOutcome::Failed).then(|| {
        let at = completion.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        format!("EBS {} ended in an error: recorded at {at}", completion.snapshot_ids.join(", "))
    })
}
