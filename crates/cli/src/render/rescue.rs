//! Text output of `rescue`.

use backstop_types::ids::ShardName;
use serde::Serialize;

use crate::runbooks::{self, CommandBlock, RUNBOOKS, Runbook, RunbookValues};
use crate::text::{RenderText, TextWriter};

/// The situations that have a page.
#[derive(Debug, Serialize)]
pub struct Situations {
    situations: Vec<Situation>,
}

#[derive(Debug, Serialize)]
struct Situation {
    name: &'static str,
    title: &'static str,
}

impl Situations {
    /// Returns every situation.
    pub fn all() -> Self {
        let of = |out: &Runbook| Situation { name: out.name, title: out.title() };
        Self { situations: RUNBOOKS.iter().map(of).collect() }
    }
}

impl RenderText for Situations {
    fn render_text(&self, out: &mut TextWriter) {
        out.fields(self.situations.iter().map(|each| (each.name, each.title.to_owned())));
    }
}

/// A page, filled in.
#[derive(Debug, Serialize)]
pub struct RescuePage {
    situation: &'static str,
    title: &'static str,
    shard: Option<ShardName>,
    notes: Vec<String>,
    commands: Vec<CommandBlock>,
    page: String,
    #[serde(skip)]
    whole: bool,
}

impl RescuePage {
    /// Fills a page with these values; the text output has all of it if `whole` is set, else its
    /// commands.
    pub fn new(
        runbook: &Runbook,
        shard: Option<ShardName>,
        values: &RunbookValues,
        notes: Vec<String>,
        whole: bool,
    ) -> Self {
        let page = values.fill(runbook.text);
        let commands = runbooks::blocks(&page);
        Self { situation: runbook.name, title: runbook.title(), shard, notes, commands, page, whole }
    }
}

impl RenderText for RescuePage {
    fn render_text(&self, out: &mut TextWriter) {
        for note in &self.notes {
            comment(out, note);
        }
        out.blank_line();
        if self.whole {
            self.page.lines().for_each(|line| out.line(line));
            return;
        }
        comment(out, self.title);
        for block in &self.commands {
            out.blank_line();
            comment(out, &block.heading);
            block.warnings.iter().for_each(|warning| comment(out, warning));
            block.commands.lines().for_each(|line| out.line(line));
        }
        out.blank_line();
        out.line("# Nothing was touched. --page prints the whole page, with expected outputs and refusals.");
    }
}

/// Writes lines that a shell ignores.
fn comment(out: &mut TextWriter, text: &str) {
    text.lines().for_each(|line| out.line(format!("# {line}")));
}
