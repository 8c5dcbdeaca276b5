//! Ends backups whose snapshots EC2 has stored, or has failed to: on EBS's events, and in a sweep for
//! lost events. Both ask EC2 for the state, and record it in the repository that the tags name.
//! Events may be early, late, repeated or lost; a run of the shard may hold its lease meanwhile.

use backstop_aws::client::AwsClient;
use backstop_aws::ebs::{EbsCatalog, SetStanding, SnapshotSet, SnapshotSets, Timeouts};
use backstop_engine::completion::record_completion;
use backstop_engine::context::RunContext;
use backstop_types::backup::VolumeState;
use backstop_types::completion::{Completion, CompletionOutcome};
use backstop_types::create_repository::CreateRepository;
use backstop_types::error::{Error, Result};
use serde_json::{Value, json};

use crate::completion_event::{CompletionBatch, CompletionMessage};
use crate::shard_access::{open_repository, secret_entry};

/// Handles a batch. Returns the messages that SQS must deliver again
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>).
///
/// # Errors
/// Fails if AWS cannot be reached at all; then SQS delivers the whole batch again.
pub async fn complete_batch(batch: &CompletionBatch, ctx: &RunContext) -> Result<Value> {
    let aws = AwsClient::connect(None).await?;
    let mut again = Vec::new();
    for message in &batch.messages {
        let id = message.message_id.as_str();
        match ctx.unless_stopped(complete_message(message, &aws, ctx)).await {
            Ok(()) => {}
            Err(error) => {
                let (error, message, hint) = (error.kind, &error.message, error.hint.as_deref());
                tracing::warn!(event = "completion_deferred", id, ?error, message, hint);
                again.push(json!({ "itemIdentifier": id }));
            }
        }
    }
    Ok(json!({ "batchItemFailures": again }))
}

async fn complete_message(message: &CompletionMessage, aws: &AwsClient, ctx: &RunContext) -> Result<()> {
    let event = message.event()?;
    let aws = aws.in_region(&event.region);
    let sets = SnapshotSets::new(&aws).of(&event.snapshot_ids).await?;
    if sets.is_empty() {
        let snapshots = event.snapshot_ids.join(", ");
        tracing::info!(event = "foreign_snapshot", snapshots);
    }
    for set in sets {
        match set.standing {
            SetStanding::Ended => {}
            SetStanding::Open
                if set.state == VolumeState::Pending && is_of_one(&event.snapshot_ids, &set) =>
            {
                // Another snapshot of the set is still pending, and its event will follow.
                let backup_id = set.backup_id.as_str();
                tracing::info!(event = "set_pending", backup_id);
            }
            SetStanding::Open if set.state != VolumeState::Pending => end(&set, &aws, ctx).await?,
            _ => return Err(not_yet(&set)),
        }
    }
    Ok(())
}

/// True if an event is of one snapshot of a larger set.
fn is_of_one(snapshot_ids: &[String], set: &SnapshotSet) -> bool {
    snapshot_ids.len() < set.snapshot_ids.len()
}

/// Returns the error of an event that came before the tags or states that it is about.
fn not_yet(set: &SnapshotSet) -> Error {
    let why = match set.standing {
        SetStanding::Partial => "EC2 does not list all of its snapshots yet",
        SetStanding::Unproven => "its run has not proven the lock yet",
        SetStanding::Open | SetStanding::Ended => "EC2 still lists it as pending",
    };
    Error::failed(format!("cannot end backup {} of shard {}: {why}", set.backup_id, set.shard))
}

/// Ends all proven backups of the region whose end is not marked.
///
/// # Errors
/// Fails, naming them, if backups could not be ended. The others are.
pub async fn sweep(ctx: &RunContext) -> Result<Value> {
    let aws = AwsClient::connect(None).await?;
    let sets = ctx.unless_stopped(SnapshotSets::new(&aws).open()).await?;
    let (mut ended, mut pending, mut failures) = (0, 0, Vec::new());
    for set in sets {
        if set.state == VolumeState::Pending {
            pending += 1;
            continue;
        }
        match ctx.unless_stopped(end(&set, &aws, ctx)).await {
            Ok(()) => ended += 1,
            Err(error) => failures.push(format!("{} of shard {}: {error}", set.backup_id, set.shard)),
        }
    }
    let failed = failures.len();
    tracing::info!(event = "swept", ended, pending, failed);
    if failures.is_empty() {
        return Ok(json!({ "ended": ended, "pending": pending }));
    }
    Err(Error::failed(format!("cannot end {} backups: {}", failures.len(), failures.join("; "))))
}

/// Records the end of a set in the repository, marks its snapshots, and logs it. The alarms count
/// these lines (`deploy/terraform/modules/completion`).
async fn end(set: &SnapshotSet, aws: &AwsClient, ctx: &RunContext) -> Result<()> {
    let outcome = match set.state {
        VolumeState::Completed | VolumeState::Archived => CompletionOutcome::Completed,
        _ => CompletionOutcome::Failed,
    };
    let url = set.repository.as_deref().ok_or_else(|| {
        Error::failed(format!(
            "cannot end backup {}: its snapshots do not name its repository",
            set.backup_id
        ))
        .hint("an older version made it: `backstop status` reports its state")
    })?;
    let entry = match &set.secret {
        Some(id) => Some(secret_entry(aws, id, Some(url)).await?),
        None => None,
    };
    let opened = open_repository(url, entry.as_ref(), (CreateRepository::Never, None), &ctx.host);
    let reader = opened.await?.reader(&set.shard);
    let catalog = EbsCatalog::new(aws.clone(), Timeouts::default(), ctx.clone());
    let at = ctx.host.clock.now();
    let (backup_id, snapshot_ids) = (set.backup_id.clone(), set.snapshot_ids.clone());
    let completion = Completion { backup_id, outcome, snapshot_ids, at };
    let recorded = record_completion(&reader, &catalog, aws.region(), completion).await?;
    log_end(set, &recorded, aws.region());
    Ok(())
}

fn log_end(set: &SnapshotSet, recorded: &Completion, region: &str) {
    let (backup_id, shard) = (set.backup_id.as_str(), set.shard.to_string());
    let seconds = set.begun.map(|begun| (recorded.at - begun).num_seconds());
    match recorded.outcome {
        CompletionOutcome::Completed => {
            tracing::info!(event = "backup_completed", backup_id, shard, region, seconds);
        }
        CompletionOutcome::Failed => {
            let why = format!("{} ended in an error", recorded.snapshot_ids.join(", "));
            tracing::error!(event = "backup_incomplete", backup_id, shard, region, seconds, why);
        }
    }
}
