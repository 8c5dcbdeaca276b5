//! `rescue`.

use backstop_model::ids::ShardName;
use serde::Serialize;

use crate::page::{Page, Screen};
use crate::runbooks::{self, Block, RUNBOOKS, Runbook, Values};

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
    /// Every one.
    pub fn all() -> Self {
        let of = |page: &Runbook| Situation { name: page.name, title: page.title() };
        Self { situations: RUNBOOKS.iter().map(of).collect() }
    }
}

impl Screen for Situations {
    fn draw(&self, page: &mut Page) {
        page.fields(self.situations.iter().map(|each| (each.name, each.title.to_owned())));
    }
}

/// A page, filled in.
#[derive(Debug, Serialize)]
pub struct Rescue {
    situation: &'static str,
    title: &'static str,
    shard: Option<ShardName>,
    notes: Vec<String>,
    commands: Vec<Block>,
    page: String,
    #[serde(skip)]
    whole: bool,
}

impl Rescue {
    /// The page with these values in it; with `whole` people see all of it, else its commands.
    pub fn new(
        runbook: &Runbook,
        shard: Option<ShardName>,
        values: &Values,
        notes: Vec<String>,
        whole: bool,
    ) -> Self {
        let page = values.fill(runbook.text);
        let commands = runbooks::blocks(&page);
        Self { situation: runbook.name, title: runbook.title(), shard, notes, commands, page, whole }
    }
}

impl Screen for Rescue {
    fn draw(&self, page: &mut Page) {
        for note in &self.notes {
            page.line(format!("# {note}"));
        }
        page.gap();
        if self.whole {
            self.page.lines().for_each(|line| page.line(line));
            return;
        }
        page.line(format!("# {}", self.title));
        for block in &self.commands {
            page.gap();
            page.line(format!("# {}", block.heading));
            block.commands.lines().for_each(|line| page.line(line));
        }
        page.gap();
        page.line("# Nothing was touched. The whole page, with what you should see and what to do if it refuses: --page");
    }
}
