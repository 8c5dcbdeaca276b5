//! Text output of `init`.

use backstop_engine::report::{DraftReport, InitReport};
use backstop_engine::shell_quote::shell_quote;

use crate::text::{RenderText, TextWriter};

impl RenderText for InitReport {
    fn render_text(&self, out: &mut TextWriter) {
        let id = self.repository.map_or_else(|| "(its root object is lost)".to_owned(), |id| id.to_string());
        out.line(match self.made {
            true => out.colors.good(&format!("Made repository {id} at {}.", self.url)),
            false => format!("Repository {id} exists already at {}. Nothing was changed.", self.url).into(),
        });
        if self.made && self.encrypted {
            out.line("It is encrypted, and useless without its key. Keep a copy of the key elsewhere.");
        }
        let pin = self.repository.filter(|_| !self.pinned);
        let pin = pin.map(|id| {
            format!("to accept no other repository in its place, add to [repository]: id = \"{id}\"")
        });
        out.next(&pin.into_iter().chain(["backstop check".to_owned()]).collect::<Vec<_>>());
    }
}

impl RenderText for DraftReport {
    fn render_text(&self, out: &mut TextWriter) {
        let file = self.file.display();
        out.line(out.colors.good(&format!("Wrote {file} for shard {}.", self.shard)));
        let members = self.members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let candidate =
            self.candidate.as_ref().map_or("no replica is usable".to_owned(), ToString::to_string);
        out.fields([("members", members), ("candidate", candidate)]);
        for unknown in &self.unknown {
            out.line(format!("Unknown: {unknown}"));
        }
        let at = shell_quote(&file.to_string());
        let shard = &self.shard;
        out.next(&[
            format!("review {file}, and correct it where necessary"),
            format!("backstop init --config {at}"),
            format!("backstop check {shard} --config {at}"),
            format!("backstop backup {shard} --config {at}"),
        ]);
    }
}
