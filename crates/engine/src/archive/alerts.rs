//! Alerts: current faults of an archiver, reported when they begin, repeatedly while they last, and
//! when they are over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstop_types::error::Error;

use crate::ports::{Clock, Reporter};

/// Current faults of an archiver, by component.
pub(super) struct Alerts {
    clock: Arc<dyn Clock>,
    reporter: Arc<dyn Reporter>,
    now: Mutex<BTreeMap<&'static str, (String, Duration)>>,
}

impl Alerts {
    pub(super) fn new(clock: Arc<dyn Clock>, reporter: Arc<dyn Reporter>) -> Self {
        Self { clock, reporter, now: Mutex::default() }
    }

    /// Reports a fault of a component. Repeats the same fault after `remind`.
    pub(super) fn raise(&self, part: &'static str, error: &Error, remind: Duration) {
        let text = match &error.hint {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        };
        let now = self.clock.monotonic();
        let mut all = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(part).is_some_and(|(told, at)| *told == text && now < *at + remind);
        if !known {
            self.reporter.notice(&text);
            all.insert(part, (text, now));
        }
    }

    /// Reports that a component works again.
    pub(super) fn clear(&self, part: &'static str) {
        let ended = self.now.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
        if ended.is_some() {
            self.reporter.notice(&format!("the {part} works again"));
        }
    }

    /// Returns all current faults in one text.
    pub(super) fn summary(&self) -> Option<String> {
        let all = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: Vec<&str> = all.values().map(|(text, _)| text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}
