//! Notices of a process that asks orchestrator every few seconds: each is given when it begins to
//! hold, and every hour while it holds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Interval at which a notice that still holds is given again.
const REPEAT_INTERVAL: Duration = Duration::from_secs(3600);

/// The notices that hold, with the time at which each was given last.
#[derive(Debug, Default)]
pub(super) struct RepeatedNotices(Mutex<BTreeMap<String, Duration>>);

/// The notices of one look at orchestrator.
pub(super) struct NoticesOfLook<'a> {
    earlier: &'a RepeatedNotices,
    now: Duration,
    seen: BTreeMap<String, bool>,
}

impl RepeatedNotices {
    /// Begins a look at this time.
    pub(super) fn begin(&self, now: Duration) -> NoticesOfLook<'_> {
        NoticesOfLook { earlier: self, now, seen: BTreeMap::new() }
    }
}

impl NoticesOfLook<'_> {
    /// True if this notice is to be given: it is new, or was given an hour ago. Within one look the
    /// answer stays the same.
    pub(super) fn is_due(&mut self, notice: &str) -> bool {
        if let Some(due) = self.seen.get(notice) {
            return *due;
        }
        let mut given = self.earlier.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = given.get(notice).is_none_or(|at| self.now >= *at + REPEAT_INTERVAL);
        if due {
            given.insert(notice.to_owned(), self.now);
        }
        self.seen.insert(notice.to_owned(), due);
        due
    }

    /// Forgets the earlier notices that do not hold any more: one that holds again is new.
    pub(super) fn end(self) {
        let mut given = self.earlier.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|notice, _| self.seen.contains_key(notice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns those of the notices that are given in one look.
    fn given<'a>(notices: &RepeatedNotices, second: u64, holding: &[&'a str]) -> Vec<&'a str> {
        let mut look = notices.begin(Duration::from_secs(second));
        let given = holding.iter().copied().filter(|notice| look.is_due(notice)).collect();
        look.end();
        given
    }

    #[test]
    fn notice_is_given_on_change_and_hourly() {
        let notices = RepeatedNotices::default();
        let mut times = 0;
        for second in (0..7200).step_by(3) {
            times += given(&notices, second, &["no candidate"]).len();
        }
        assert_eq!(times, 2, "in two hours");
        assert_eq!(given(&notices, 7199, &["no candidate", "lacks 1"]), ["lacks 1"]);
        assert!(given(&notices, 7204, &[]).is_empty());
        assert_eq!(given(&notices, 7207, &["no candidate"]), ["no candidate"], "it holds again");
    }
}
