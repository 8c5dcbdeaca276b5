//! `verify`.

use backstop_model::report::{BackupState, ShardVerified, Verdict, VerifyReport};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for VerifyReport {
    fn draw(&self, page: &mut Page) {
        for shard in &self.shards {
            page.gap();
            draw(shard, page);
        }
        page.gap();
        conclude(self, page);
    }
}

/// What was done, and no more: that a backup can be recovered, only a recovery of it shows.
fn conclude(report: &VerifyReport, page: &mut Page) {
    match report.verdict() {
        Verdict::Damaged => {
            page.line(page.paint.bad("Stored data is damaged."));
            page.next(&[
                "recover only from backups that are not named above",
                "make a new backup, and verify again",
            ]);
        }
        Verdict::NotAllChecked => {
            page.line(page.paint.bad("Not everything could be looked at: see what is marked NOT CHECKED."));
        }
        Verdict::Nothing | Verdict::NothingFound => {
            let read = if report.contents_read {
                "what was read"
            } else {
                "names and sizes; contents were not read"
            };
            page.line(page.paint.good(&format!("No damage was found in {read}.")));
            let contents = (!report.contents_read).then(|| "backstop verify --content".to_owned());
            let proof = "backstop recover SHARD --backup ID --standalone --into DIR      proves that this backup can be recovered";
            page.next(&contents.into_iter().chain([proof.to_owned()]).collect::<Vec<_>>());
        }
    }
}

fn draw(shard: &ShardVerified, page: &mut Page) {
    page.line(page.paint.strong(&format!("Shard {}", shard.shard)));
    page.fields([
        ("backups", backups(shard)),
        ("checked", checked(shard)),
        ("archive", human::count(shard.segments, "piece")),
        (
            "unreferenced",
            format!("{} that `backstop prune --apply` removes", human::count(shard.unreferenced, "object")),
        ),
    ]);
    for unchecked in &shard.unchecked {
        page.line(page.paint.bad(&format!("  NOT CHECKED: {}", unchecked.object)));
        let ids: Vec<&str> = unchecked.backups.iter().map(|id| id.as_str()).collect();
        page.fields([("  why", unchecked.why.clone()), ("  needed by", ids.join(", "))]);
    }
    for damage in &shard.damaged {
        page.line(page.paint.bad(&format!("  damaged: {}", damage.object)));
        let backups: Vec<&str> = damage.backups.iter().map(|id| id.as_str()).collect();
        if let Some(gtids) = &damage.gtids {
            let moments = damage.moments.map_or("not known".to_owned(), |(from, to)| {
                format!("{} to {}", human::moment(from), human::moment(to))
            });
            let fields =
                [("  wrong", damage.wrong.clone()), ("  lost", gtids.to_string()), ("  moments", moments)];
            page.fields(fields);
            continue;
        }
        let needed = if backups.is_empty() { "no backup".to_owned() } else { backups.join(", ") };
        page.fields([("  wrong", damage.wrong.clone()), ("  needed by", needed)]);
    }
}

fn backups(shard: &ShardVerified) -> String {
    let of = |state| shard.backups.iter().filter(|backup| backup.state == state).count();
    let all = human::count(shard.backups.len() as u64, "backup");
    let named = [
        (of(BackupState::Damaged), "damaged"),
        (of(BackupState::Pending), "not complete yet"),
        (of(BackupState::Unknown), "not checked"),
    ];
    let named: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if named.is_empty() { all } else { format!("{all}: {}", named.join(", ")) }
}

/// What was done with what is stored.
fn checked(shard: &ShardVerified) -> String {
    let objects = human::count(shard.objects, "object");
    if shard.depth == "content" {
        let elsewhere = if shard.contents_read { "" } else { "; contents of EBS snapshots cannot be" };
        return format!(
            "every byte of {objects} was read and compared ({}){elsewhere}",
            human::bytes(shard.bytes_read)
        );
    }
    format!("names and sizes of {objects} were checked; contents were not read")
}
