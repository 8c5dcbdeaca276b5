//! Text output of `key`.

use backstop_engine::report::{KeyChange, KeyCheckReport, KeyReport};
use backstop_engine::shell_quote::shell_quote;

use crate::text::{RenderText, TextWriter};

impl RenderText for KeyReport {
    fn render_text(&self, out: &mut TextWriter) {
        let file = self.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let (id, removed) =
            (self.id.as_deref().unwrap_or_default(), self.removed.as_deref().unwrap_or_default());
        let configure = format!("configure it: encryption_key = {{ file = {file:?} }} under [repository]");
        let copy = format!("keep a copy of {file} away from this host and from the repository");
        let check = "backstop key check".to_owned();
        let (done, next) = match self.change {
            KeyChange::Generated => (
                format!("Wrote a new key to {file}."),
                vec![copy, format!("backstop key rotate {}", shell_quote(&file)), "backstop init     for a new repository, once it is configured".to_owned()],
            ),
            KeyChange::Added => (format!("Key {id} opens the repository, too."), vec![copy, check]),
            KeyChange::Rotated if self.removed.is_none() => {
                (format!("Key {id} opened the repository already. Nothing was changed."), vec![check])
            }
            KeyChange::Rotated => (
                format!("Key {id} opens the repository, and key {removed} no longer does."),
                vec![configure, copy, check],
            ),
            KeyChange::Removed => (format!("Key {removed} no longer opens the repository."), vec![check]),
            KeyChange::Exported => (
                format!("Wrote the data key, wrapped by key {id}, to {file}."),
                vec!["keep it away from the repository: with the key, it opens a repository that has lost its own copies (`backstop key import`)".to_owned()],
            ),
            KeyChange::Imported => (format!("Key {id} opens the repository again."), vec![check]),
        };
        out.line(out.colors.good(&done));
        if self.removed.is_some() {
            out.line(
                "The data key is the same: whoever kept the removed key and an old copy of the repository's objects \
                 still reads what is stored.",
            );
        }
        out.next(&next);
    }
}

impl RenderText for KeyCheckReport {
    fn render_text(&self, out: &mut TextWriter) {
        for key in &self.keys {
            let configured = if key.configured { ", the configured one" } else { "" };
            out.line(out.colors.strong(&format!("Key {}{configured}", key.id)));
            out.fields([("copies", format!("{} of 2", key.copies))]);
            for lost in &key.lost {
                out.line(out.colors.bad(&format!("  {lost}")));
            }
        }
        if self.ok {
            out.line(out.colors.good("Each key has both copies."));
        } else {
            out.line(out.colors.bad("A copy is lost."));
            out.next(&[
                "make a backup with that key configured, which stores the copy again".to_owned(),
                "backstop key remove ID     if the key was to be removed".to_owned(),
            ]);
        }
    }
}
