//! `backstop verify`.

use backstop_engine::runs;
use backstop_engine::standing::{Stand, stands};
use backstop_model::archive::ArchiveDamage;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::progress::Progress;
use backstop_model::report::{
    BackupState, DamagedObject, ShardVerified, Unchecked, Verdict, VerifiedBackup, VerifyReport,
};
use backstop_model::runs::Operation;
use backstop_model::standing::Standing;
use backstop_repo::{Depth, Reader, Repository};

use super::{Ended, known_or_stored};
use crate::args::VerifyArgs;
use crate::compose::App;
use crate::output::Output;

/// Checks what is stored.
///
/// # Errors
/// What kept it from looking; [`Kind::NotRecoverable`] when nothing is stored. Damage is a result: exit code 22.
pub async fn run(args: &VerifyArgs, app: &App, output: &Output) -> Result<Ended> {
    let report = verified(args, app).await?;
    let ended = match report.verdict() {
        Verdict::Nothing => return Err(nothing(args)),
        Verdict::NothingFound => Ended::Well,
        Verdict::NotAllChecked => Ended::Attention,
        Verdict::Damaged => Ended::Damaged,
    };
    output.report(&report);
    Ok(ended)
}

fn nothing(args: &VerifyArgs) -> Fault {
    let (whose, shard) = match &args.shard {
        Some(shard) => (format!(" of shard {shard}"), shard.to_string()),
        None => (String::new(), "SHARD".to_owned()),
    };
    let message = format!("verify what is stored{whose}: nothing is, neither a backup nor an archive");
    Fault::new(Kind::NotRecoverable, message).hint(format!(
        "see whether this is the repository that is meant, and make a backup: `backstop backup {shard}`"
    ))
}

async fn verified(args: &VerifyArgs, app: &App) -> Result<VerifyReport> {
    let repository = app.world.unless_stopped(app.repository()).await?;
    let shards = match &args.shard {
        Some(shard) => {
            app.world.unless_stopped(known_or_stored(app, &repository, shard)).await?;
            vec![shard.clone()]
        }
        None => app.world.unless_stopped(repository.shards()).await?,
    };
    let depth = if args.content { Depth::Content } else { Depth::Objects };
    let mut verified = Vec::new();
    for shard in shards {
        let work = app.world.unless_stopped(one(app, &repository, &shard, depth));
        let kept = runs::kept((&repository, &shard), Operation::Verify, &app.world, work, said);
        verified.push(app.world.step("verify", kept).await?);
    }
    Ok(VerifyReport::new(verified))
}

/// The result in a few words.
fn said(verified: &ShardVerified) -> Option<String> {
    let (backups, depth) = (verified.backups.len(), verified.depth);
    let damaged = verified.damaged.len();
    Some(format!("{backups} backups looked at ({depth}), {damaged} damaged objects"))
}

async fn one(app: &App, repository: &Repository, shard: &ShardName, depth: Depth) -> Result<ShardVerified> {
    let progress = |progress: Progress| app.world.reporter.progress(progress);
    let reader = repository.reader(shard);
    let found = reader.verify(depth, &progress).await?;
    note(app, shard, reader.note(&found, depth, app.world.clock.now()).await);
    let kept = kept_elsewhere(app, &reader, shard).await?;
    let sound = found.sound();
    let state = |id: &BackupId| match kept.iter().find(|(kept, _)| kept == id) {
        _ if !sound.contains(id) => BackupState::Damaged,
        Some((_, stand)) => stand.standing.state(),
        None => BackupState::Complete,
    };
    let backups = found.backups.iter().map(|id| VerifiedBackup { backup_id: id.clone(), state: state(id) });
    let damaged = found.damaged.iter().map(|damage| DamagedObject {
        object: damage.object.clone(),
        wrong: damage.wrong.clone(),
        backups: damage.backups.clone(),
        gtids: None,
        moments: None,
    });
    let archive = repository.archive(shard).verify(depth, &progress).await?;
    note(app, shard, repository.archive(shard).note(&archive, depth, app.world.clock.now()).await);
    let pieces = archive.damaged.into_iter().map(piece);
    Ok(ShardVerified {
        shard: shard.clone(),
        depth: if depth == Depth::Content { "content" } else { "objects" },
        contents_read: depth == Depth::Content && kept.is_empty(),
        backups: backups.collect(),
        objects: found.objects + archive.segments,
        bytes_read: found.bytes_read + archive.bytes_read,
        damaged: damaged.chain(kept.iter().filter_map(lost)).chain(pieces).collect(),
        unchecked: kept.iter().filter_map(unasked).collect(),
        unreferenced: found.unreferenced,
        segments: archive.segments,
    })
}

/// Who may only read verifies too, but no one else learns of it.
fn note<T>(app: &App, shard: &ShardName, noted: Result<T>) {
    if let Err(fault) = noted {
        app.world.reporter.notice(&format!(
            "what was found of shard {shard} is not written down, so `status`, `plan` and `backups` do not know of it: {fault}"
        ));
    }
}

fn piece(damage: ArchiveDamage) -> DamagedObject {
    DamagedObject {
        object: damage.object,
        wrong: damage.wrong,
        backups: Vec::new(),
        gtids: Some(damage.gtids),
        moments: damage.committed,
    }
}

/// The backups whose data is in EBS snapshots, and how those stand. What of the repository cannot be read was found already.
async fn kept_elsewhere(app: &App, reader: &Reader, shard: &ShardName) -> Result<Vec<(BackupId, Stand)>> {
    let catalog = match reader.catalog().await {
        Err(fault) if fault.kind == Kind::Damaged => return Ok(Vec::new()),
        catalog => catalog?,
    };
    let kept = stands(reader, &catalog, &app.volumes(shard)).await?;
    let ids = catalog.into_iter().map(|entry| entry.facts.backup_id);
    Ok(ids.zip(kept).filter(|(_, stand)| stand.ebs.is_some()).collect())
}

fn lost((id, stand): &(BackupId, Stand)) -> Option<DamagedObject> {
    let Standing::Lost(wrong) = &stand.standing else { return None };
    Some(DamagedObject {
        object: stand.ebs.as_ref()?.snapshot_ids.join(", "),
        wrong: wrong.clone(),
        backups: vec![id.clone()],
        gtids: None,
        moments: None,
    })
}

fn unasked((id, stand): &(BackupId, Stand)) -> Option<Unchecked> {
    let Standing::Unasked(why) = &stand.standing else { return None };
    let object = format!("EBS {}", stand.ebs.as_ref()?.snapshot_ids.join(", "));
    Some(Unchecked { object, why: why.clone(), backups: vec![id.clone()] })
}
