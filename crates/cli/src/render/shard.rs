//! `shard adopt`.

use backstop_model::identity::AdoptReport;

use crate::page::{Page, Screen};

impl Screen for AdoptReport {
    fn draw(&self, page: &mut Page) {
        let title = format!("Shard {} is what its members have now.", self.shard);
        page.line(page.paint.strong(&title));
        let servers: Vec<String> = self.adopted.servers.iter().map(ToString::to_string).collect();
        let mut fields =
            vec![("servers", servers.join(", ")), ("gtid_executed", self.adopted.gtid_executed.to_string())];
        if let Some(backup) = &self.newest_backup {
            fields.push(("before it", format!("the backups up to {backup}, which stay")));
        }
        if let Some(line) = self.line {
            fields.push(("archive", format!("line {line} begins with it")));
        }
        page.fields(fields);
        page.next(&[format!("backstop backup {}", self.shard)]);
    }
}
