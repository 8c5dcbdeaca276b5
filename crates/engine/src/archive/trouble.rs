//! What is wrong now: told when it begins, again while it lasts, and when it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstop_model::fault::Fault;

use crate::ports::{Clock, Reporter};

/// The troubles of an archiver, by the part that has them.
pub(super) struct Trouble {
    clock: Arc<dyn Clock>,
    reporter: Arc<dyn Reporter>,
    now: Mutex<BTreeMap<&'static str, (String, Duration)>>,
}

impl Trouble {
    pub(super) fn new(clock: Arc<dyn Clock>, reporter: Arc<dyn Reporter>) -> Self {
        Self { clock, reporter, now: Mutex::default() }
    }

    /// A part has trouble. The same is told again after `remind`.
    pub(super) fn is(&self, part: &'static str, fault: &Fault, remind: Duration) {
        let text = match &fault.hint {
            Some(hint) => format!("{fault} ({hint})"),
            None => fault.to_string(),
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
    pub(super) fn over(&self, part: &'static str) {
        let ended = self.now.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
        if ended.is_some() {
            self.reporter.notice(&format!("the {part} works again"));
        }
    }

    /// All there is, in one text.
    pub(super) fn all(&self) -> Option<String> {
        let all = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: Vec<&str> = all.values().map(|(text, _)| text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}
