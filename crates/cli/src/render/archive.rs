//! `archive`.

use backstop_model::report::ArchiveReport;

use crate::human;
use crate::page::{Page, Screen};
use crate::systemd::ArchiverUnit;

impl Screen for ArchiveReport {
    fn draw(&self, page: &mut Page) {
        let transactions = human::count(self.transactions, "transaction");
        let from = self.source.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
        page.line(page.paint.strong(&format!("Shard {}: archived {transactions}{from}", self.shard)));
        page.fields([("took", human::seconds(self.seconds))]);
        for gap in &self.gaps {
            page.fields([("GAP", format!("{} were purged before they were archived", gap.gtids))]);
        }
        for fork in &self.forks {
            page.fields([("FORK", format!("{} was promoted without {}", fork.source, fork.lacks))]);
        }
        if !self.is_well() {
            page.next(&[format!("backstop backup {} begins a new window without the gap", self.shard)]);
        }
    }
}

impl Screen for ArchiverUnit {
    fn draw(&self, page: &mut Page) {
        page.line(format!("# {}", self.service.path.display()));
        self.service.content.lines().for_each(|line| page.line(line));
        page.gap();
        page.line("# Put this into the file that its first line names, then:");
        for command in &self.install {
            page.line(format!("#   {command}"));
        }
    }
}
