//! Text output of `shard adopt`.

use backstop_engine::report::AdoptReport;

use crate::text::{RenderText, TextWriter};

impl RenderText for AdoptReport {
    fn render_text(&self, out: &mut TextWriter) {
        let title = format!("The name of shard {} now belongs to the history of its members.", self.shard);
        out.line(out.colors.strong(&title));
        let servers: Vec<String> = self.adopted.servers.iter().map(ToString::to_string).collect();
        let mut fields =
            vec![("servers", servers.join(", ")), ("gtid_executed", self.adopted.gtid_executed.to_string())];
        if let Some(backup) = &self.newest_backup {
            fields.push(("older backups", format!("kept, up to {backup}")));
        }
        if let Some(timeline) = self.timeline {
            fields.push(("archive", format!("timeline {timeline} begins")));
        }
        out.fields(fields);
        out.next(&[format!("backstop backup {}", self.shard)]);
    }
}
