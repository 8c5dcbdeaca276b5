//! Text output of `find`.

use backstop_binlog::{ChangeKind, FoundTransaction, TableRows};
use backstop_engine::report::{FindReport, RecoveryAdvice};

use crate::format;
use crate::text::{RenderText, TextWriter};

impl RenderText for FindReport {
    fn render_text(&self, out: &mut TextWriter) {
        let count = format::count(self.transactions.len() as u64, "transaction");
        let more = if self.more { ", and there are more" } else { "" };
        let title = format!("{count} on timeline {} of shard {}{more}", self.timeline, self.shard);
        out.line(out.colors.strong(&title));
        for found in &self.transactions {
            out.blank_line();
            render_transaction(found, out);
        }
        out.blank_line();
        out.line(format!(
            "Searched {} in {}, {}.",
            format::count(self.read.transactions, "transaction"),
            format::count(self.read.segments, "segment"),
            format::bytes(self.read.bytes)
        ));
        if !self.transactions.is_empty() {
            out.next(&[self
                .advice
                .as_ref()
                .map_or_else(|| no_recovery_command(self), |advice| recovery_command(self, advice))]);
        }
    }
}

fn recovery_command(report: &FindReport, advice: &RecoveryAdvice) -> String {
    let line = report.abandoned_timeline.map_or(String::new(), |line| format!(" --line {line}"));
    let (shard, RecoveryAdvice { to, why, .. }) = (&report.shard, advice);
    format!("backstop recover {shard} --to {to}{line} --into DIR --standalone   (just before {why})")
}

fn no_recovery_command(report: &FindReport) -> String {
    let shard = &report.shard;
    format!(
        "no recovery to just before these is known: `backstop status {shard}` shows the recoverable moments"
    )
}

fn render_transaction(found: &FoundTransaction, out: &mut TextWriter) {
    let at = found.committed_at.map_or("at an unknown time".to_owned(), |at| out.exact_moment(at));
    let kind = match found.kind {
        ChangeKind::Ddl => "DDL",
        ChangeKind::Dml => "DML",
        ChangeKind::Other => "other",
    };
    out.line(format!("{at}  {kind}  {}", found.gtid));
    if let Some(statement) = &found.statement {
        let line: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        out.line(format!("    {}", line.chars().take(110).collect::<String>()));
    }
    for table in &found.tables {
        out.line(format!("    {}", rows(table)));
    }
    if found.statement_based {
        out.line("    logged as a statement: the log does not contain the rows");
    }
    out.line(format!("    --to {}", found.to));
}

fn rows(table: &TableRows) -> String {
    let counts = [("inserted", table.inserted), ("updated", table.updated), ("deleted", table.deleted)];
    let shown: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{} {what}", format::thousands(*count)))
        .collect();
    let least = if table.at_least && !shown.is_empty() { "at least " } else { "" };
    match shown.as_slice() {
        [] => format!("{}.{}", table.schema, table.table),
        shown => format!("{}.{}: {least}{}", table.schema, table.table, shown.join(", ")),
    }
}
