//! `init`.

use backstop_model::report::{DraftReport, InitReport};
use backstop_model::shell::word;

use crate::page::{Page, Screen};

impl Screen for InitReport {
    fn draw(&self, page: &mut Page) {
        let id = self.repository.map_or_else(|| "whose root object is lost".to_owned(), |id| id.to_string());
        page.line(match self.made {
            true => page.paint.good(&format!("Made repository {id} at {}.", self.url)),
            false => {
                format!("There is a repository at {} already: {id}. Nothing was changed.", self.url).into()
            }
        });
        if self.made && self.encrypted {
            page.line("It is encrypted: a lost key is a lost repository. Keep a copy of the key elsewhere.");
        }
        let pin = self.repository.filter(|_| !self.pinned);
        let pin =
            pin.map(|id| format!("to accept no other in its place, add to [repository]: id = \"{id}\""));
        page.next(&pin.into_iter().chain(["backstop check".to_owned()]).collect::<Vec<_>>());
    }
}

impl Screen for DraftReport {
    fn draw(&self, page: &mut Page) {
        let file = self.file.display();
        page.line(page.paint.good(&format!("Wrote {file} for shard {}.", self.shard)));
        let members = self.members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let candidate = self.candidate.as_ref().map_or("no replica is fit".to_owned(), ToString::to_string);
        page.fields([("members", members), ("candidate", candidate)]);
        for unknown in &self.unknown {
            page.line(format!("Not known: {unknown}"));
        }
        let at = word(&file.to_string());
        let shard = &self.shard;
        page.next(&[
            format!("read {file}, and correct what is not as you want it"),
            format!("backstop init --config {at}"),
            format!("backstop check {shard} --config {at}"),
            format!("backstop backup {shard} --config {at}"),
        ]);
    }
}
