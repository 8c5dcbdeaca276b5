//! Parses the event of a Lambda invocation, and decides whether the remaining time is enough.

use std::time::Duration;

use backstop_types::backup::BackupKind;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::freeze::FreezeRules;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

const EVENT_FORMS: &str = "write {\"secret_id\": \"…\"}, with \"kind\": \"on_demand\" for a manual backup, and in a schedule with \
                     \"scheduled_time\": \"<aws.scheduler.scheduled-time>\"";
/// Time reserved after the freeze: proof of the snapshot, commit, release of the lease.
const TIME_AFTER_FREEZE: Duration = Duration::from_secs(20);
/// Time reserved between the decision and the freeze: the dry run and the connections.
const TIME_BEFORE_FREEZE: Duration = Duration::from_secs(10);
/// Time reserved for the cleanup of a stopped run.
pub const CLEANUP_TIME: Duration = Duration::from_secs(8);

/// Request for one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The secret that holds everything about the shard: a name or an ARN.
    pub secret_id: String,
    /// The kind of trigger.
    pub kind: BackupKind,
    /// The scheduled time, if a schedule sent the request. Deliveries for the same time are one
    /// backup.
    pub scheduled_time: Option<DateTime<Utc>>,
}

impl Invocation {
    /// Parses an event: the object itself, the same as `detail` of an EventBridge event, either of
    /// them as text, or only the secret's id as text.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] with the cause if the event is invalid. The message repeats no
    /// value.
    pub fn parse(event: &Value) -> Result<Self> {
        match event {
            Value::String(text) if text.trim_start().starts_with('{') => {
                let object = serde_json::from_str(text).map_err(|_| wrong("the text is not JSON"))?;
                Self::from_object(&object)
            }
            Value::String(id) => Self::from_object(&serde_json::json!({ "secret_id": id })),
            event => Self::from_object(event),
        }
    }

    fn from_object(event: &Value) -> Result<Self> {
        let Value::Object(object) = event else { return Err(wrong("it is not an object")) };
        match object.get("detail") {
            Some(Value::Object(detail)) => {
                // EventBridge's own time counts if the event carries no other.
                let own = object.get("time").filter(|_| !detail.contains_key("scheduled_time"));
                let mut detail = detail.clone();
                if let Some(time) = own.filter(|_| detail.get("kind").is_none_or(|kind| kind == "scheduled"))
                {
                    detail.insert("scheduled_time".to_owned(), time.clone());
                }
                Self::from_fields(&detail)
            }
            Some(_) => Err(wrong("`detail` is not an object")),
            None => Self::from_fields(object),
        }
    }

    fn from_fields(fields: &Map<String, Value>) -> Result<Self> {
        const KNOWN_KEYS: [&str; 3] = ["secret_id", "kind", "scheduled_time"];
        if fields.keys().any(|key| !KNOWN_KEYS.contains(&key.as_str())) {
            return Err(wrong(&format!("it has a key other than {}", KNOWN_KEYS.join(", "))));
        }
        let secret_id = match fields.get("secret_id") {
            Some(Value::String(id)) if !id.trim().is_empty() => id.trim().to_owned(),
            Some(_) => return Err(wrong("`secret_id` is not a string")),
            None => return Err(wrong("`secret_id` is missing")),
        };
        let kind = match fields.get("kind").map(|kind| kind.as_str()) {
            None | Some(Some("scheduled")) => BackupKind::Scheduled,
            Some(Some("on_demand")) => BackupKind::OnDemand,
            Some(_) => return Err(wrong("`kind` is neither \"scheduled\" nor \"on_demand\"")),
        };
        let scheduled_time = fields.get("scheduled_time").map(time).transpose()?;
        Ok(Self { secret_id, kind, scheduled_time })
    }

    /// Returns the key that repeated deliveries share: the scheduled time, or else the id of the
    /// request, which Lambda keeps when it retries an asynchronous invocation.
    pub fn occasion(&self, request_id: &str) -> String {
        match self.scheduled_time {
            Some(time) => format!("scheduled {}", time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => format!("request {request_id}"),
        }
    }
}

fn time(value: &Value) -> Result<DateTime<Utc>> {
    let text = value.as_str().unwrap_or_default();
    if text.starts_with('<') {
        return Err(wrong(
            "`scheduled_time` was not filled in: only EventBridge Scheduler replaces <aws.scheduler.…>",
        ));
    }
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc())
        .map_err(|_| wrong("`scheduled_time` is not a time such as 2026-11-23T23:55:00Z"))
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("cannot read the event: {why}")).hint(EVENT_FORMS)
}

/// Refuses a freeze that might not end, and be committed, in the remaining time.
///
/// # Errors
/// Returns [`ErrorKind::Refused`], with the longest time needed, if the remaining time is too
/// short.
pub fn time_to_freeze(left: Duration, rules: &FreezeRules) -> Result<()> {
    let needed = TIME_BEFORE_FREEZE + rules.wait + rules.hold + TIME_AFTER_FREEZE;
    if left >= needed {
        return Ok(());
    }
    let message = format!(
        "cannot freeze the source: the function has {} s left, and the backup may need {} s until it is committed",
        left.as_secs(),
        needed.as_secs()
    );
    Err(Error::refused(message)
        .hint("give the function a longer timeout (300 s is recommended); nothing was changed"))
}

/// Returns the time after which no further freeze may begin, from the time that is left now.
pub fn time_until_last_freeze(left: Duration, rules: &FreezeRules) -> Duration {
    left.saturating_sub(rules.wait + rules.hold + TIME_AFTER_FREEZE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn parsed(event: Value) -> Invocation {
        Invocation::parse(&event).unwrap()
    }

    #[test]
    fn every_form_of_the_event_is_parsed() {
        let plain = parsed(json!({"secret_id": "prod/orders"}));
        assert_eq!(
            (plain.secret_id.as_str(), plain.kind, plain.scheduled_time),
            ("prod/orders", BackupKind::Scheduled, None)
        );
        for same in [
            json!("prod/orders"),
            json!("{\"secret_id\": \"prod/orders\"}"),
            json!({"detail": {"secret_id": " prod/orders"}}),
        ] {
            assert_eq!(parsed(same), plain);
        }
        let time = "2026-11-23T23:55:00Z";
        let scheduled = parsed(json!({"secret_id": "prod/orders", "scheduled_time": time}));
        assert_eq!(scheduled.occasion("r"), "scheduled 2026-11-23T23:55:00Z");
        let wrapped = json!({"version": "0", "id": "x", "detail-type": "Backup", "source": "ours", "time": time,
            "region": "eu-west-1", "resources": [], "detail": {"secret_id": "prod/orders"}});
        assert_eq!(parsed(wrapped), scheduled);
        let by_hand = parsed(json!({"secret_id": "prod/orders", "kind": "on_demand"}));
        assert_eq!((by_hand.kind, by_hand.occasion("r-1")), (BackupKind::OnDemand, "request r-1".to_owned()));
        let wrapped = json!({"time": time, "detail": {"secret_id": "prod/orders", "kind": "on_demand"}});
        assert_eq!(parsed(wrapped), by_hand, "two by hand within a second are two");
    }

    #[test]
    fn same_moment_gives_the_same_occasion() {
        let at = |time: &str| parsed(json!({"secret_id": "x", "scheduled_time": time})).occasion("r");
        assert_eq!(at("2026-11-23T23:55:00Z"), at("2026-11-24T00:55:00.000+01:00"));
        assert_ne!(at("2026-11-23T23:55:00Z"), at("2026-11-23T23:56:00Z"));
    }

    #[test]
    fn malformed_event_is_refused_with_the_correct_form() {
        for (event, part) in [
            (json!({}), "missing"),
            (json!(null), "not an object"),
            (json!([]), "not an object"),
            (json!("{"), "not JSON"),
            (json!(""), "not a string"),
            (json!({"secret_id": 5}), "not a string"),
            (json!({"secret_id": "x", "kind": "sometimes"}), "kind"),
            (json!({"secret_id": "x", "scheduled_time": "<aws.scheduler.scheduled-time>"}), "filled in"),
            (json!({"secret_id": "x", "scheduled_time": 5}), "scheduled_time"),
            (json!({"secret_id": "x", "password": "hunter2"}), "a key other than"),
            (json!({"detail": "x"}), "detail"),
        ] {
            let error = Invocation::parse(&event).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage);
            assert!(error.message.contains(part) && !error.message.contains("hunter2"), "{event}: {error}");
            assert!(error.hint.unwrap().contains("secret_id"));
        }
    }

    #[test]
    fn freeze_is_refused_without_time_to_complete() {
        let rules = FreezeRules {
            wait: Duration::from_secs(5),
            hold: Duration::from_secs(2),
            ..FreezeRules::default()
        };
        assert!(time_to_freeze(Duration::from_secs(37), &rules).is_ok());
        let error = time_to_freeze(Duration::from_millis(36_999), &rules).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains("36 s") && error.message.contains("37 s"), "{error}");
        let patient = FreezeRules { wait: Duration::from_secs(300), ..rules.clone() };
        assert!(time_to_freeze(Duration::from_secs(300), &patient).is_err());
        assert_eq!(time_until_last_freeze(Duration::from_secs(100), &rules), Duration::from_secs(73));
        assert_eq!(time_until_last_freeze(Duration::from_secs(3), &rules), Duration::ZERO);
    }
}
