//! EBS's events of the ends of snapshots, and the batches in which SQS delivers them.

use serde_json::{Value, json};

/// Returns EBS's event of one snapshot
/// (<https://docs.aws.amazon.com/ebs/latest/userguide/ebs-cloud-watch-events.html>).
pub fn of_one(region: &str, snapshot: &str) -> Value {
    json!({
        "detail-type": "EBS Snapshot Notification", "source": "aws.ec2", "region": region,
        "detail": {"event": "createSnapshot", "result": "succeeded",
                   "snapshot_id": format!("arn:aws:ec2::{region}:snapshot/{snapshot}")},
    })
}

/// Returns EBS's event of a set.
pub fn of_set(region: &str, snapshots: &[String]) -> Value {
    let item = |id: &String| json!({"snapshot_id": format!("arn:aws:ec2::{region}:snapshot/{id}")});
    json!({
        "detail-type": "EBS Multi-Volume Snapshots Completion Status", "source": "aws.ec2", "region": region,
        "detail": {"event": "createSnapshots", "result": "succeeded",
                   "snapshots": snapshots.iter().map(item).collect::<Vec<_>>()},
    })
}

/// Returns messages as SQS delivers them to a function.
pub fn batch(messages: &[(&str, Value)]) -> Value {
    let record = |(id, body): &(&str, Value)| json!({"messageId": id, "eventSource": "aws:sqs", "body": body.to_string()});
    json!({"Records": messages.iter().map(record).collect::<Vec<_>>()})
}
