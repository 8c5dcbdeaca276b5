//! Parses EBS's events of the ends of snapshots, in the batches that SQS delivers
//! (<https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>), and the event of a sweep.

use backstop_types::error::{Error, ErrorKind, Result};
use serde_json::Value;

/// Messages of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionBatch {
    /// The messages, each with its id.
    pub messages: Vec<CompletionMessage>,
}

/// One message of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionMessage {
    /// Its id in the batch.
    pub message_id: String,
    /// Its text: an event of EventBridge.
    body: String,
}

/// Event that snapshots have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionEvent {
    /// The snapshots.
    pub snapshot_ids: Vec<String>,
    /// Their region.
    pub region: String,
}

impl CompletionBatch {
    /// Parses a batch; `None` if the event is none.
    pub fn parse(event: &Value) -> Option<Self> {
        let records = event.get("Records")?.as_array()?;
        let message = |record: &Value| {
            let text = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
            Some(CompletionMessage { message_id: text("messageId")?, body: text("body").unwrap_or_default() })
        };
        Some(Self { messages: records.iter().filter_map(message).collect() })
    }
}

impl CompletionMessage {
    /// Parses the event of the message: of one snapshot (`createSnapshot`) or of a set
    /// (`createSnapshots`), as
    /// <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-cloud-watch-events.html> documents
    /// them. The states in it are not used: only EC2's answers count.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] with the cause if it is another event.
    pub fn event(&self) -> Result<CompletionEvent> {
        let event: Value = serde_json::from_str(&self.body).map_err(|_| wrong("it is not JSON"))?;
        let detail = event.get("detail").ok_or_else(|| wrong("`detail` is missing"))?;
        let region =
            event.get("region").and_then(Value::as_str).ok_or_else(|| wrong("`region` is missing"))?;
        let id = |value: &Value| value.get("snapshot_id").and_then(Value::as_str).map(snapshot_id);
        let ids: Option<Vec<String>> = match detail.get("event").and_then(Value::as_str) {
            Some("createSnapshot") => Some(id(detail).into_iter().collect()),
            Some("createSnapshots") => detail
                .get("snapshots")
                .and_then(Value::as_array)
                .map(|all| all.iter().filter_map(id).collect()),
            _ => return Err(wrong("`detail.event` is neither createSnapshot nor createSnapshots")),
        };
        match ids {
            Some(snapshot_ids) if !snapshot_ids.is_empty() => {
                Ok(CompletionEvent { snapshot_ids, region: region.to_owned() })
            }
            _ => Err(wrong("it names no snapshot")),
        }
    }
}

/// True for the event of a sweep: `{"sweep": true}`.
pub fn is_sweep(event: &Value) -> bool {
    event.get("sweep") == Some(&Value::Bool(true))
}

/// Returns the id of a snapshot from its ARN (`arn:aws:ec2::us-east-1:snapshot/snap-…`).
fn snapshot_id(arn: &str) -> String {
    arn.rsplit('/').next().unwrap_or(arn).to_owned()
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("cannot read the event of EBS: {why}"))
        .hint("let the rule match EBS's events createSnapshot and createSnapshots only (modules/completion)")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn message(body: &Value) -> CompletionMessage {
        let batch =
            json!({"Records": [{"messageId": "m-1", "eventSource": "aws:sqs", "body": body.to_string()}]});
        CompletionBatch::parse(&batch).unwrap().messages.remove(0)
    }

    /// The examples of AWS's page, shortened.
    #[test]
    fn events_of_one_snapshot_and_of_a_set_name_their_snapshots() {
        let arn = |id: &str| format!("arn:aws:ec2::us-east-1:snapshot/{id}");
        let one = json!({
            "detail-type": "EBS Snapshot Notification", "source": "aws.ec2", "region": "us-east-1",
            "resources": [arn("snap-01234567")],
            "detail": {"event": "createSnapshot", "result": "succeeded", "cause": "", "request-id": "",
                       "snapshot_id": arn("snap-01234567"), "source": "arn:aws:ec2::us-east-1:volume/vol-01234567"},
        });
        let event = message(&one).event().unwrap();
        assert_eq!(
            (event.snapshot_ids, event.region.as_str()),
            (vec!["snap-01234567".to_owned()], "us-east-1")
        );
        let set = json!({
            "detail-type": "EBS Multi-Volume Snapshots Completion Status", "region": "us-east-1",
            "detail": {"event": "createSnapshots", "result": "failed", "snapshots": [
                {"snapshot_id": arn("snap-012345678"), "source": "x", "status": "completed"},
                {"snapshot_id": arn("snap-012345679"), "source": "x", "status": "error"},
            ]},
        });
        assert_eq!(message(&set).event().unwrap().snapshot_ids, ["snap-012345678", "snap-012345679"]);
    }

    #[test]
    fn other_events_are_refused() {
        for body in [
            json!("text"),
            json!({"region": "eu", "detail": {"event": "copySnapshot", "snapshot_id": "snap-1"}}),
            json!({"region": "eu", "detail": {"event": "createSnapshots", "snapshots": []}}),
            json!({"detail": {"event": "createSnapshot", "snapshot_id": "snap-1"}}),
        ] {
            assert_eq!(message(&body).event().unwrap_err().kind, ErrorKind::Usage, "{body}");
        }
        assert!(CompletionBatch::parse(&json!({"secret_id": "x"})).is_none());
        assert!(is_sweep(&json!({"sweep": true})) && !is_sweep(&json!({"secret_id": "x"})));
    }
}
