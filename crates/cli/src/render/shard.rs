//! Text output of `shard adopt`.

use backstop_model::shard_identity::AdoptReport;

use crate::text::{RenderText, TextWriter};

impl RenderText for AdoptReport {
    fn render_text(&self, out: &mut TextWriter) {
        let title = format!("Shard {} is what its members have now.", self.shard);
        out.line(out.colors.strong(&title));
        let servers: Vec<String> = self.adopted.servers.iter().map(ToString::to_string).collect();
        let mut fields =
            vec![("servers", servers.join(", ")), ("gtid_executed", self.adopted.gtid_executed.to_string())];
        if let Some(backup) = &self.newest_backup {
            fields.push(("before it", format!("the backups up to {backup}, which stay")));
        }
        if let Some(timeline) = self.timeline {
            fields.push(("archive", format!("line {timeline} begins with it")));
        }
        out.fields(fields);
        out.next(&[format!("backstop backup {}", self.shard)]);
    }
}
