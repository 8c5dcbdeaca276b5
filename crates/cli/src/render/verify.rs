//! Text output of `verify`.

use backstop_engine::report::{ShardVerification, VerifyReport, VerifyVerdict};
use backstop_types::backup::BackupState;

use crate::format;
use crate::text::{RenderText, TextWriter};

impl RenderText for VerifyReport {
    fn render_text(&self, out: &mut TextWriter) {
        for shard in &self.shards {
            out.blank_line();
            render_shard(shard, out);
        }
        out.blank_line();
        conclude(self, out);
    }
}

/// Writes what was checked, and no more: only a recovery shows that a backup can be recovered.
fn conclude(report: &VerifyReport, out: &mut TextWriter) {
    match report.verdict() {
        VerifyVerdict::Damaged => {
            out.line(out.colors.bad("Stored data is damaged."));
            out.next(&[
                "recover only from backups that are not named above",
                "make a new backup, and verify again",
            ]);
        }
        VerifyVerdict::NotAllChecked => {
            out.line(out.colors.bad("Not everything could be checked: see the objects marked NOT CHECKED."));
        }
        VerifyVerdict::KeyCopyLost => {
            for lost in &report.lost_key_copies {
                out.line(out.colors.bad(&format!("Copy of key {} lost: {}", lost.key_id, lost.wrong)));
            }
            out.line("All data can be read with the other copy.");
            out.next(&[
                "make a backup, which stores the lost copy of the configured key again",
                "backstop key check",
            ]);
        }
        VerifyVerdict::Nothing | VerifyVerdict::NothingFound => {
            let read = if report.contents_read {
                "the data that was read"
            } else {
                "names and sizes; contents were not read"
            };
            out.line(out.colors.good(&format!("No damage was found in {read}.")));
            let contents = (!report.contents_read).then(|| "backstop verify --content".to_owned());
            let proof = "backstop recover SHARD --backup ID --standalone --into DIR      proves that this backup can be recovered";
            out.next(&contents.into_iter().chain([proof.to_owned()]).collect::<Vec<_>>());
        }
    }
}

fn render_shard(shard: &ShardVerification, out: &mut TextWriter) {
    out.line(out.colors.strong(&format!("Shard {}", shard.shard)));
    out.fields([
        ("backups", backups(shard)),
        ("checked", checked(shard)),
        ("archive", format::count(shard.segments, "segment")),
        (
            "unreferenced",
            format!("{} that `backstop prune --apply` removes", format::count(shard.unreferenced, "object")),
        ),
    ]);
    for unchecked in &shard.unchecked {
        out.line(out.colors.bad(&format!("  NOT CHECKED: {}", unchecked.object)));
        let ids: Vec<&str> = unchecked.backups.iter().map(|id| id.as_str()).collect();
        out.fields([("  why", unchecked.why.clone()), ("  needed by", ids.join(", "))]);
    }
    for damage in &shard.damaged {
        out.line(out.colors.bad(&format!("  damaged: {}", damage.object)));
        let backups: Vec<&str> = damage.backups.iter().map(|id| id.as_str()).collect();
        if let Some(gtids) = &damage.gtids {
            let moments = damage.moments.map_or("unknown".to_owned(), |(from, to)| {
                format!("{} to {}", format::moment(from), format::moment(to))
            });
            let fields =
                [("  problem", damage.wrong.clone()), ("  lost", gtids.to_string()), ("  moments", moments)];
            out.fields(fields);
            continue;
        }
        let needed = if backups.is_empty() { "no backup".to_owned() } else { backups.join(", ") };
        out.fields([("  problem", damage.wrong.clone()), ("  needed by", needed)]);
    }
}

fn backups(shard: &ShardVerification) -> String {
    let of = |state| shard.backups.iter().filter(|backup| backup.state == state).count();
    let all = format::count(shard.backups.len() as u64, "backup");
    let named = [
        (of(BackupState::Damaged), "damaged"),
        (of(BackupState::Pending), "not complete yet"),
        (of(BackupState::Unknown), "not checked"),
    ];
    let named: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if named.is_empty() { all } else { format!("{all}: {}", named.join(", ")) }
}

/// Describes the checks of the stored objects.
fn checked(shard: &ShardVerification) -> String {
    let objects = format::count(shard.objects, "object");
    if shard.depth == "content" {
        let elsewhere = if shard.contents_read { "" } else { "; contents of EBS snapshots cannot be read" };
        return format!(
            "every byte of {objects} was read and compared ({}){elsewhere}",
            format::bytes(shard.bytes_read)
        );
    }
    format!("names and sizes of {objects} were checked; contents were not read")
}
