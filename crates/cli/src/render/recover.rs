//! `recover`.

use backstop_model::report::RecoverReport;

use super::findings;
use crate::human;
use crate::page::{Page, Screen};

impl Screen for RecoverReport {
    fn draw(&self, page: &mut Page) {
        let what = if self.joined { "is rebuilt, joined and caught up" } else { "is rebuilt" };
        let title = format!("A server of shard {} {what}.", self.shard);
        page.line(page.paint.good(&title));
        let seconds = self.seconds;
        page.fields([
            ("from backup", self.backup_id.to_string()),
            ("listens on", format!("{}:{}, super_read_only", self.server.host, self.server.port)),
            ("socket", self.server.socket.clone()),
            ("data", self.server.datadir.clone()),
            ("gtid_executed", self.gtid_executed.to_string()),
            (
                "took",
                format!(
                    "{} (files {}, start {}, joining {})",
                    human::seconds(seconds.total),
                    human::seconds(seconds.materialise),
                    human::seconds(seconds.start),
                    human::seconds(seconds.join)
                ),
            ),
        ]);
        if !self.checks.is_empty() {
            page.gap();
            page.line(page.paint.strong("Checked:"));
            findings(page, &self.checks);
        }
        page.gap();
        page.line(format!("Connect: mysql --socket={} --user=USER --password", self.server.socket));
        page.next(&self.next);
    }
}
