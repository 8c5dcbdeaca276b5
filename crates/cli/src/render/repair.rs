//! Text output of `repair`.

use backstop_engine::report::{RepairReport, RepairedIndex, RepairedLog, UnusableManifest};
use backstop_types::ids::BackupId;

use crate::format;
use crate::text::{RenderText, TextWriter};

/// Limit for the objects that are named on screen.
const MAX_OBJECTS_SHOWN: usize = 10;

impl RenderText for RepairReport {
    fn render_text(&self, out: &mut TextWriter) {
        for log in &self.logs {
            draw_log(log, out);
            out.blank_line();
        }
        for index in &self.indexes {
            draw_index(index, out);
            out.blank_line();
        }
        let shard = &self.shard;
        let stuck = self.indexes.iter().filter(|index| index.cannot.is_some()).count();
        let can = self.logs.len() + self.indexes.len() - stuck;
        if stuck > 0 {
            out.line(format!("Of {} lost indexes {stuck} cannot be rebuilt.", self.indexes.len()));
        }
        match (can, self.applied) {
            (0, _) if stuck > 0 => {
                out.next(&["restore the named objects from a version or a copy of the bucket".to_owned()]);
            }
            (0, _) => {
                let sound =
                    format!("Nothing to repair: the logs and the archive's indexes of {shard} are sound.");
                out.line(out.colors.good(&sound));
            }
            (_, false) => {
                out.line("Nothing was written.");
                out.next(&[format!("backstop repair {shard} --apply")]);
            }
            (_, true) => {
                out.line(out.colors.good(&format!("{shard} is repaired.")));
                let mut next =
                    vec![format!("backstop verify {shard} --content      reads the recovered objects")];
                if !self.logs.is_empty() || self.indexes.iter().any(|index| !index.lost.is_empty()) {
                    next.push(format!("backstop backup {shard}"));
                }
                out.next(&next);
            }
        }
    }
}

fn draw_log(log: &RepairedLog, out: &mut TextWriter) {
    out.line(out.colors.strong(&log.log));
    let mut fields = vec![("problem", log.wrong.clone())];
    if !log.kept.is_empty() {
        fields.push(("still listed", format::count(log.kept.len() as u64, "backup")));
    }
    for (name, backups) in [("listed again", &log.found), ("removed by prune", &log.gone)] {
        if !backups.is_empty() {
            let ids: Vec<&str> = backups.iter().map(BackupId::as_str).collect();
            fields.push((name, ids.join(", ")));
        }
    }
    fields.extend(log.left.iter().map(not_usable));
    out.fields(fields);
}

fn draw_index(index: &RepairedIndex, out: &mut TextWriter) {
    out.line(out.colors.strong(&index.index));
    let mut fields = vec![("problem", index.wrong.clone())];
    match &index.cannot {
        Some(why) => fields.push(("cannot be rebuilt", why.clone())),
        None => fields.push(("rebuilt from", format::count(index.found, "segment"))),
    }
    if !index.lost.is_empty() {
        fields.push(("remains a gap", index.lost.to_string()));
    }
    if let Some(aside) = &index.aside {
        fields.push(("damaged bytes", format!("kept as {aside}")));
    }
    fields.extend(index.left.iter().take(MAX_OBJECTS_SHOWN).map(not_usable));
    if index.left.len() > MAX_OBJECTS_SHOWN {
        let more = format::count((index.left.len() - MAX_OBJECTS_SHOWN) as u64, "more object");
        fields.push(("unusable", format!("{more} (`--json` names them)")));
    }
    out.fields(fields);
}

fn not_usable(left: &UnusableManifest) -> (&'static str, String) {
    ("unusable", format!("{}: {}", left.object, left.why))
}
