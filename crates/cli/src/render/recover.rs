//! `recover`.

use backstop_model::events::{EventName, EventsReport};
use backstop_model::plan::Ending;
use backstop_model::report::RecoverReport;

use super::findings;
use crate::human;
use crate::page::{Page, Screen};

impl Screen for RecoverReport {
    fn draw(&self, page: &mut Page) {
        let title = match self.ending {
            Ending::Join => format!("A server of shard {} is rebuilt, joined and caught up.", self.shard),
            Ending::Standalone => {
                format!("A STANDALONE copy of shard {} at `{}` is rebuilt.", self.shard, self.target)
            }
            Ending::AsPrimary => {
                format!("A NEW PRIMARY of shard {} is rebuilt and takes writes.", self.shard)
            }
        };
        page.line(page.paint.good(&title));
        let seconds = self.seconds;
        page.fields([
            ("moment", page.target(&self.target)),
            ("from backup", self.backup_id.to_string()),
            ("listens on", format!("{}:{}, {}", self.server.host, self.server.port, writes(self.ending))),
            ("socket", self.server.socket.clone()),
            ("data", self.server.datadir.clone()),
            ("gtid_executed", self.gtid_executed.to_string()),
            ("replayed", human::count(self.transactions_replayed, "transaction")),
            (
                "took",
                format!(
                    "{} (files {}, start {}, replay {}, joining {})",
                    human::seconds(seconds.total),
                    human::seconds(seconds.materialise),
                    human::seconds(seconds.start),
                    human::seconds(seconds.replay),
                    human::seconds(seconds.join)
                ),
            ),
        ]);
        if !self.checks.is_empty() {
            page.gap();
            page.line(page.paint.strong("Checked:"));
            findings(page, &self.checks);
        }
        if let Some(told) = &self.events {
            events(page, told);
        }
        page.gap();
        page.line(match &self.server.client_file {
            Some(file) => format!("Connect: mysql --defaults-file={file}"),
            None => format!("Connect: mysql --socket={} --user=USER --password", self.server.socket),
        });
        page.next(&self.next);
    }
}

/// Which events fire. Nothing, where there are none.
fn events(page: &mut Page, told: &EventsReport) {
    let names = |names: &[EventName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let lists = [("enabled", &told.enabled), ("disabled", &told.disabled), ("unknown", &told.unknown)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let mut fields: Vec<_> = lists.map(|(word, list)| (word, names(list))).collect();
    if fields.is_empty() && told.statements.is_empty() {
        return;
    }
    page.gap();
    page.line(page.paint.strong("Events:"));
    fields.push(("scheduler", if told.scheduler { "on" } else { "off" }.to_owned()));
    page.fields(fields);
    if !told.statements.is_empty() {
        page.line("  These statements have the events fire that did at the primary:");
        told.statements.iter().for_each(|statement| page.line(statement));
    }
}

fn writes(ending: Ending) -> &'static str {
    match ending {
        Ending::AsPrimary => "takes writes",
        Ending::Standalone | Ending::Join => "super_read_only",
    }
}
