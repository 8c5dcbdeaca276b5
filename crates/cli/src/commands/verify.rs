//! `backstop verify`.

use backstop_engine::ports::VolumeSnapshots;
use backstop_model::archive::ArchiveDamage;
use backstop_model::fault::Result;
use backstop_model::ids::ShardName;
use backstop_model::progress::Progress;
use backstop_model::report::{
    BackupState, DamagedObject, ShardVerified, VerifiedBackup, VerifyReport, VolumeState,
};
use backstop_repo::{Depth, Reader, Repository, Storage};

use super::{Ended, known_or_stored};
use crate::args::VerifyArgs;
use crate::cloud::Cloud;
use crate::compose::App;
use crate::output::Output;

/// Checks what is stored.
///
/// # Errors
/// What kept it from looking. Damage is a result: exit code 22.
pub async fn run(args: &VerifyArgs, app: &App, output: &Output) -> Result<Ended> {
    let report = app.world.unless_stopped(verified(args, app)).await?;
    output.report(&report);
    Ok(if report.ok { Ended::Well } else { Ended::Damaged })
}

async fn verified(args: &VerifyArgs, app: &App) -> Result<VerifyReport> {
    let repository = app.repository().await?;
    let shards = match &args.shard {
        Some(shard) => {
            known_or_stored(app, &repository, shard).await?;
            vec![shard.clone()]
        }
        None => repository.shards().await?,
    };
    let depth = if args.content { Depth::Content } else { Depth::Objects };
    let mut verified = Vec::new();
    for shard in shards {
        verified.push(app.world.step("verify", one(app, &repository, shard, depth)).await?);
    }
    Ok(VerifyReport::new(verified))
}

async fn one(app: &App, repository: &Repository, shard: ShardName, depth: Depth) -> Result<ShardVerified> {
    let progress = |progress: Progress| app.world.reporter.progress(progress);
    let reader = repository.reader(&shard);
    let found = reader.verify(depth, &progress).await?;
    let lost = lost_snapshots(app, &reader, &shard).await?;
    let sound = found.sound();
    let is_sound = |id| sound.contains(id) && !lost.iter().any(|damage| damage.backups.contains(id));
    let state = |id| if is_sound(id) { BackupState::Complete } else { BackupState::Damaged };
    let backups = found.backups.iter().map(|id| VerifiedBackup { backup_id: id.clone(), state: state(id) });
    let damaged = found.damaged.iter().map(|damage| DamagedObject {
        object: damage.object.clone(),
        wrong: damage.wrong.clone(),
        backups: damage.backups.clone(),
        gtids: None,
        moments: None,
    });
    let archive = repository.archive(&shard).verify(depth, &progress).await?;
    let pieces = archive.damaged.into_iter().map(piece);
    Ok(ShardVerified {
        shard,
        depth: if depth == Depth::Content { "content" } else { "objects" },
        backups: backups.collect(),
        objects: found.objects + archive.segments,
        bytes_read: found.bytes_read + archive.bytes_read,
        damaged: damaged.chain(lost.iter().cloned()).chain(pieces).collect(),
        unreferenced: found.unreferenced,
        segments: archive.segments,
    })
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

/// The EBS snapshots of backups that are gone or failed, where this build can ask. Asking is what `verify` is for: what keeps it
/// from asking is a fault.
async fn lost_snapshots(app: &App, reader: &Reader, shard: &ShardName) -> Result<Vec<DamagedObject>> {
    let mut lost = Vec::new();
    if !Cloud::is_reachable() {
        return Ok(lost);
    }
    for entry in reader.catalog().await?.iter().filter(|entry| entry.facts.lineage.is_ebs()) {
        let Storage::Ebs { snapshot_ids, region } = reader.storage_of(entry).await? else { continue };
        let wrong = match app.volumes(shard).state(&snapshot_ids, &region).await? {
            VolumeState::Completed | VolumeState::Pending => continue,
            VolumeState::Error => "EC2 could not complete it",
            VolumeState::Missing => "EC2 does not know it any more",
        };
        lost.push(DamagedObject {
            object: snapshot_ids.join(", "),
            wrong: wrong.to_owned(),
            backups: vec![entry.facts.backup_id.clone()],
            gtids: None,
            moments: None,
        });
    }
    Ok(lost)
}
