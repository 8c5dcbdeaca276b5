//! Text output of `recover`.

use backstop_engine::report::RecoverReport;
use backstop_policy::plan::Ending;
use backstop_policy::scheduled_events::EventsReport;
use backstop_types::scheduled_events::EventName;

use super::findings;
use crate::format;
use crate::text::{RenderText, TextWriter};

impl RenderText for RecoverReport {
    fn render_text(&self, out: &mut TextWriter) {
        let title = match self.ending {
            Ending::Join => format!("A server of shard {} is rebuilt, joined and caught up.", self.shard),
            Ending::Standalone => {
                format!("A STANDALONE copy of shard {} at `{}` is rebuilt.", self.shard, self.target)
            }
            Ending::AsPrimary => {
                format!("A NEW PRIMARY of shard {} is rebuilt and takes writes.", self.shard)
            }
        };
        out.line(out.colors.good(&title));
        let seconds = self.seconds;
        out.fields([
            ("moment", out.target(&self.target)),
            ("from backup", self.backup_id.to_string()),
            ("listens on", format!("{}:{}, {}", self.server.host, self.server.port, writes(self.ending))),
            ("socket", self.server.socket.clone()),
            ("data", self.server.datadir.clone()),
            ("gtid_executed", self.gtid_executed.to_string()),
            ("replayed", format::count(self.transactions_replayed, "transaction")),
            (
                "took",
                format!(
                    "{} (files {}, start {}, replay {}, joining {})",
                    format::seconds(seconds.total),
                    format::seconds(seconds.materialise),
                    format::seconds(seconds.start),
                    format::seconds(seconds.replay),
                    format::seconds(seconds.join)
                ),
            ),
        ]);
        if !self.checks.is_empty() {
            out.blank_line();
            out.line(out.colors.strong("Checked:"));
            findings(out, &self.checks);
        }
        if let Some(report) = &self.events {
            events(out, report);
        }
        out.blank_line();
        out.line(match &self.server.client_file {
            Some(file) => format!("Connect: mysql --defaults-file={file}"),
            None => format!("Connect: mysql --socket={} --user=USER --password", self.server.socket),
        });
        out.next(&self.next);
    }
}

/// Writes which events are enabled. Writes nothing if there are none.
fn events(out: &mut TextWriter, report: &EventsReport) {
    let names = |names: &[EventName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let lists = [("enabled", &report.enabled), ("disabled", &report.disabled), ("unknown", &report.unknown)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let mut fields: Vec<_> = lists.map(|(word, list)| (word, names(list))).collect();
    if fields.is_empty() && report.statements.is_empty() {
        return;
    }
    out.blank_line();
    out.line(out.colors.strong("Events:"));
    fields.push(("scheduler", if report.scheduler { "on" } else { "off" }.to_owned()));
    out.fields(fields);
    if !report.statements.is_empty() {
        out.line("  These statements enable the events that were enabled on the primary:");
        report.statements.iter().for_each(|statement| out.line(statement));
    }
}

fn writes(ending: Ending) -> &'static str {
    match ending {
        Ending::AsPrimary => "takes writes",
        Ending::Standalone | Ending::Join => "super_read_only",
    }
}
