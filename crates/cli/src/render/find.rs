//! `find`.

use backstop_model::report::{Advice, ChangeKind, FindReport, Found, TableRows};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for FindReport {
    fn draw(&self, page: &mut Page) {
        let count = human::count(self.transactions.len() as u64, "transaction");
        let more = if self.more { ", and there are more" } else { "" };
        let title = format!("{count} in line {} of shard {}{more}", self.line, self.shard);
        page.line(page.paint.strong(&title));
        for found in &self.transactions {
            page.gap();
            draw(found, page);
        }
        page.gap();
        page.line(format!(
            "Searched {} in {}, {}.",
            human::count(self.read.transactions, "transaction"),
            human::count(self.read.segments, "piece"),
            human::bytes(self.read.bytes)
        ));
        if !self.transactions.is_empty() {
            page.next(&[self.advice.as_ref().map_or_else(|| no_way(self), |advice| way(self, advice))]);
        }
    }
}

fn way(report: &FindReport, advice: &Advice) -> String {
    let line = report.left_line.map_or(String::new(), |line| format!(" --line {line}"));
    let (shard, Advice { to, why, .. }) = (&report.shard, advice);
    format!("backstop recover {shard} --to {to}{line} --into DIR --standalone   (just before {why})")
}

fn no_way(report: &FindReport) -> String {
    let shard = &report.shard;
    format!(
        "no way to just before any of these is known: `backstop status {shard}` shows what can be recovered"
    )
}

fn draw(found: &Found, page: &mut Page) {
    let at = found.committed_at.map_or("at an unknown time".to_owned(), |at| page.exact_moment(at));
    let kind = match found.kind {
        ChangeKind::Ddl => "DDL",
        ChangeKind::Dml => "DML",
        ChangeKind::Other => "other",
    };
    page.line(format!("{at}  {kind}  {}", found.gtid));
    if let Some(statement) = &found.statement {
        let line: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        page.line(format!("    {}", line.chars().take(110).collect::<String>()));
    }
    for table in &found.tables {
        page.line(format!("    {}", rows(table)));
    }
    if found.statement_based {
        page.line("    logged as a statement: which rows, and how many, is not known");
    }
    page.line(format!("    --to {}", found.to));
}

fn rows(table: &TableRows) -> String {
    let counts = [("inserted", table.inserted), ("updated", table.updated), ("deleted", table.deleted)];
    let told: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{} {what}", human::thousands(*count)))
        .collect();
    let least = if table.at_least && !told.is_empty() { "at least " } else { "" };
    match told.as_slice() {
        [] => format!("{}.{}", table.schema, table.table),
        told => format!("{}.{}: {least}{}", table.schema, table.table, told.join(", ")),
    }
}
