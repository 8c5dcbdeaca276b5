//! Report on an AWS account.

use backstop_policy::first_day::{AccountAnswer, AnswerState};
use serde::Serialize;

/// `check --aws --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountReport {
    /// True if no answer is a problem, and AWS answered every question.
    pub ok: bool,
    /// The answers, in the order in which a backup and a recovery would meet them.
    pub answers: Vec<AccountAnswer>,
}

impl AccountReport {
    /// Returns the report of these answers.
    pub fn new(answers: Vec<AccountAnswer>) -> Self {
        Self { ok: answers.iter().all(|answer| answer.state < AnswerState::NotChecked), answers }
    }
}

#[cfg(test)]
mod tests {
    use backstop_policy::first_day::KEY;

    use super::*;

    #[test]
    fn unanswered_question_is_never_good() {
        let ok = |answer| AccountReport::new(vec![KEY.ok("x"), answer]).ok;
        assert!(ok(KEY.later("x", "y")) && ok(KEY.warning("x")));
        assert!(!ok(KEY.not_checked("x")) && !ok(KEY.problem("x")));
    }
}
