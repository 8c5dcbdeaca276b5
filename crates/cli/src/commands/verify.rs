//! `backstop verify`.

use backstop_model::fault::Result;
use backstop_model::ids::ShardName;
use backstop_model::progress::Progress;
use backstop_model::report::{BackupState, DamagedObject, ShardVerified, VerifiedBackup, VerifyReport};
use backstop_repo::{Depth, Repository};

use super::{Ended, known_or_stored};
use crate::args::VerifyArgs;
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
    let found = repository.reader(&shard).verify(depth, &progress).await?;
    let sound = found.sound();
    let state = |id| if sound.contains(id) { BackupState::Complete } else { BackupState::Damaged };
    let backups = found.backups.iter().map(|id| VerifiedBackup { backup_id: id.clone(), state: state(id) });
    let damaged = found.damaged.iter().map(|damage| DamagedObject {
        object: damage.object.clone(),
        wrong: damage.wrong.clone(),
        backups: damage.backups.clone(),
    });
    Ok(ShardVerified {
        shard,
        depth: if depth == Depth::Content { "content" } else { "objects" },
        backups: backups.collect(),
        objects: found.objects,
        bytes_read: found.bytes_read,
        damaged: damaged.collect(),
        unreferenced: found.unreferenced,
    })
}
