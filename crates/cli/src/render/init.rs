//! `init`.

use backstop_model::report::InitReport;

use crate::page::{Page, Screen};

impl Screen for InitReport {
    fn draw(&self, page: &mut Page) {
        let id = self.repository.map_or_else(|| "whose root object is lost".to_owned(), |id| id.to_string());
        page.line(match self.made {
            true => page.paint.good(&format!("Made repository {id} at {}.", self.url)),
            false => format!("There is a repository at {} already: {id}. Nothing was changed.", self.url),
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
