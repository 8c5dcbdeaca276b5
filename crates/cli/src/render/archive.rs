//! Text output of `archive`.

use backstop_engine::report::ArchiveReport;

use crate::format;
use crate::systemd::ArchiverUnit;
use crate::text::{RenderText, TextWriter};

impl RenderText for ArchiveReport {
    fn render_text(&self, out: &mut TextWriter) {
        let transactions = format::count(self.transactions, "transaction");
        let from = self.source.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
        out.line(out.colors.strong(&format!("Shard {}: archived {transactions}{from}", self.shard)));
        out.fields([("took", format::seconds(self.seconds))]);
        for gap in &self.gaps {
            out.fields([("GAP", format!("{} were purged before they were archived", gap.gtids))]);
        }
        for fork in &self.forks {
            out.fields([("FORK", format!("{} was promoted without {}", fork.source, fork.lacks))]);
        }
        if !self.is_well() {
            out.next(&[format!("backstop backup {} begins a new window without the gap", self.shard)]);
        }
    }
}

impl RenderText for ArchiverUnit {
    fn render_text(&self, out: &mut TextWriter) {
        out.line(format!("# {}", self.service.path.display()));
        self.service.content.lines().for_each(|line| out.line(line));
        out.blank_line();
        out.line("# Save this as the file that its first line names, then run:");
        for command in &self.install {
            out.line(format!("#   {command}"));
        }
    }
}
