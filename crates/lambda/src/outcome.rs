//! Logs the outcome of a run. A backup that was started is no success yet: the event of its end
//! makes it one ([`crate::completion`]).

use backstop_engine::report::BackupOutcome;

/// Logs what the run did.
pub fn log_outcome(outcome: &BackupOutcome, occasion: &str, request: &str) {
    match outcome {
        BackupOutcome::Made(report) => {
            let (backup_id, shard) = (report.backup_id.to_string(), report.shard.to_string());
            tracing::info!(event = "backup_started", backup_id, shard, occasion, request);
        }
        BackupOutcome::Skipped(skipped) => {
            let (pending, shard) = (skipped.pending.to_string(), skipped.shard.to_string());
            tracing::warn!(event = "backup_skipped", pending, shard, occasion, request);
        }
    }
}
