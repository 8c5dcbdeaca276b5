//! Text output of `check --aws`.

use backstop_engine::report::AccountReport;
use backstop_policy::first_day::{AccountAnswer, AnswerState, FIRST_DAY_CHECKS};
use backstop_types::ids::ShardName;

use crate::text::{RenderText, TextWriter};

impl RenderText for AccountReport {
    fn render_text(&self, out: &mut TextWriter) {
        let mut about: Vec<Option<&ShardName>> = Vec::new();
        for answer in &self.answers {
            if !about.contains(&answer.shard.as_ref()) {
                about.push(answer.shard.as_ref());
            }
        }
        about.sort();
        for shard in about {
            out.blank_line();
            let title = shard.map_or_else(|| "Account".to_owned(), |shard| format!("Shard {shard}"));
            out.line(out.colors.strong(&title));
            let mut of_it: Vec<_> =
                self.answers.iter().filter(|answer| answer.shard.as_ref() == shard).collect();
            of_it.sort_by_key(|answer| (answer.role.map(|role| role.name()), order(answer)));
            for answer in of_it {
                line(out, answer);
            }
        }
        out.blank_line();
        out.line(match self.ok {
            true => out.colors.good("AWS answered every question, and no answer is a problem."),
            false => out.colors.bad("The first day would not go well: see PROBLEM and \"not checked\"."),
        });
    }
}

fn order(answer: &AccountAnswer) -> Option<usize> {
    FIRST_DAY_CHECKS.iter().position(|check| check.code == answer.code)
}

fn line(out: &mut TextWriter, answer: &AccountAnswer) {
    let role = answer.role.map(|role| format!("{}: ", role.name())).unwrap_or_default();
    out.prose([(mark(answer.state), format!("{role}{} [{}]", answer.what, answer.code))]);
    if let Some(todo) = &answer.todo {
        out.prose([("           ", format!("-> {todo}"))]);
    }
}

fn mark(state: AnswerState) -> &'static str {
    match state {
        AnswerState::Ok => "ok         ",
        AnswerState::Later => "later      ",
        AnswerState::Warning => "warning    ",
        AnswerState::NotChecked => "not checked",
        AnswerState::Problem => "PROBLEM    ",
    }
}
