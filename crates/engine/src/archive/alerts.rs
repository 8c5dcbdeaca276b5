//! What is wrong now: told when it begins, again while it lasts, and when it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstop_model::error::Error;

use crate::ports::{Clock, Reporter};

/// The troubles of an archiver, by the part that has them.
pub(super) struct Alerts {
    clock: Arc<dyn Clock>,
    reporter: Arc<dyn Reporter>,
    now: Mutex<BTreeMap<&'static str, (String, Duration)>>,
}

impl Alerts {
    pub(super) fn new(clock: Arc<dyn Clock>, reporter: Arc<dyn Reporter>) -> Self {
        Self { clock, reporter, now: Mutex::default() }
    }

    /// A part has trouble. The same is told again after `remind`.
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

    /// A part works.
    pub(super) fn clear(&self, part: &'static str) {
        let ended = self.now.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
        if ended.is_some() {
            self.reporter.notice(&format!("the {part} works again"));
        }
    }

    /// All there is, in one text.
    pub(super) fn summary(&self) -> Option<String> {
        let all = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: Vec<&str> = all.values().map(|(text, _)| text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}
