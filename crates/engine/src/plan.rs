//! Plan: which backup a recovery would come from, and every step it would take. Reads the catalog and the archive's index only, and at most one piece.

use std::path::PathBuf;

use backstop_binlog::commits;
use backstop_model::backup::Sizes;
use backstop_model::fault::{Fault, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::plan::{
    Decided, Ending, Known, PlanRequest, Quest, RecoveryPlan, Replay, Toward, choose_backup, recovery_plan,
};
use backstop_model::target::Target;
use backstop_repo::{ArchiveReader, CatalogEntry, Reader};

/// What a plan is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose backup.
    pub shard: ShardName,
    /// The moment; `None`: that of the backup that is named.
    pub target: Option<Target>,
    /// A certain line of the archive; `None`: the current one.
    pub line: Option<u32>,
    /// A certain backup.
    pub backup: Option<BackupId>,
    /// The target directory, if it is known yet.
    pub into: Option<PathBuf>,
    /// TCP port, if it was named.
    pub port: Option<u16>,
    /// How the recovery ends.
    pub ending: Ending,
}

/// Plans a recovery.
///
/// # Errors
/// [`Kind::NotRecoverable`](backstop_model::fault::Kind::NotRecoverable) with the nearest moments that can be reached.
pub async fn plan(reader: &Reader, archive: &ArchiveReader, wanted: &Wanted) -> Result<RecoveryPlan> {
    let catalog = reader.catalog().await?;
    let known: Vec<Known> = catalog.iter().map(known).collect();
    if let (Ending::Join, Some(target)) = (wanted.ending, &wanted.target) {
        joinable(archive, &known, target, wanted).await?;
    }
    let decided = match &wanted.target {
        Some(target) => toward(archive, &known, target, wanted).await?,
        None => {
            let own = choose_backup(&wanted.shard, &known, &Target::Latest, wanted.backup.as_ref());
            Decided { chosen: own.map_err(Fault::from)?, replay: None }
        }
    };
    let id = &decided.chosen.backup.backup_id;
    let entry = catalog.iter().find(|entry| entry.facts.backup_id == *id);
    let request = PlanRequest {
        shard: wanted.shard.clone(),
        target: wanted.target.clone().unwrap_or(Target::Latest),
        into: wanted.into.clone(),
        port: wanted.port,
        ending: wanted.ending,
        sizes: entry.map_or(Sizes::default(), |entry| entry.sizes),
    };
    Ok(recovery_plan(&request, &decided))
}

/// Only a server that is taken up to the newest moment can join; an older one would be no older once it has caught up.
async fn joinable(archive: &ArchiveReader, known: &[Known], target: &Target, wanted: &Wanted) -> Result<()> {
    if *target == Target::Latest && wanted.line.is_none() {
        return Ok(());
    }
    let at = toward(archive, known, target, wanted).await?;
    let newest = Wanted { line: None, backup: None, ..wanted.clone() };
    let newest = toward(archive, known, &Target::Latest, &newest).await?;
    let (at, newest) = (held(&at), held(&newest));
    let (later, foreign) = (newest.subtract(&at), at.subtract(&newest));
    let mut message =
        format!("join a server at {target}: the shard is further, by {} transactions", later.count());
    if !later.is_empty() {
        message = format!("{message} ({later})");
    }
    if !foreign.is_empty() {
        message = format!("{message}, and lacks `{foreign}`");
    }
    Err(Fault::refused(message).hint("recover it --standalone, or join it --to latest"))
}

fn held(decided: &Decided<'_>) -> GtidSet {
    decided.replay.as_ref().map_or_else(|| decided.chosen.backup.gtid_executed.clone(), Replay::reached)
}

/// Decides. If the target is within a piece of the archive, that one is read.
async fn toward<'a>(
    archive: &ArchiveReader,
    backups: &'a [Known],
    target: &'a Target,
    wanted: &'a Wanted,
) -> Result<Decided<'a>> {
    let contents = archive.checked().await?;
    let (shard, line, backup) = (&wanted.shard, wanted.line, wanted.backup.as_ref());
    let quest = Quest { shard, archive: &contents, backups, target, line, backup };
    match quest.decide()? {
        Toward::Decided(decided) => Ok(decided),
        Toward::Needs(within) => {
            let bytes = archive.open(&within.segment).await?;
            let commits = commits(bytes, within.segment.start, within.segment.end).await?;
            Ok(quest.within(&within, &commits)?)
        }
    }
}

/// A backup as a decision needs it.
pub fn known(entry: &CatalogEntry) -> Known {
    Known {
        backup_id: entry.facts.backup_id.clone(),
        taken_at: entry.facts.taken_at,
        gtid_executed: entry.facts.gtid_executed.clone(),
    }
}
