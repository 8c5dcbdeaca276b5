//! Plan: which backup a recovery would come from, and every step it would take. Reads the catalog and the archive's index only, and at most
//! one piece; of backups in EBS snapshots it is asked how far those are.

use std::path::PathBuf;

use backstop_binlog::commits;
use backstop_model::archive::Archive;
use backstop_model::backup::Sizes;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::finding::Finding;
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::listen::ListenAddress;
use backstop_model::plan::{
    Decided, Ending, Known, Latest, PlanRequest, Quest, RecoveryPlan, Replay, Toward, choose_backup,
    newest_backup, recovery_plan,
};
use backstop_model::standing::{Standing, planned_from};
use backstop_model::target::Target;
use backstop_repo::{ArchiveReader, CatalogEntry, Reader};
use chrono::{DateTime, Utc};

use crate::ports::VolumeSnapshots;
use crate::standing::stands;

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
    /// Addresses that it listens on in service, if other than loopback.
    pub listen: Option<ListenAddress>,
    /// How the recovery ends.
    pub ending: Ending,
}

/// What a plan rests on.
pub struct Stored<'a> {
    /// The backups.
    pub reader: &'a Reader,
    /// The archive.
    pub archive: &'a ArchiveReader,
    /// The EBS snapshots that backups may be kept in.
    pub volumes: &'a dyn VolumeSnapshots,
    /// The time of day.
    pub now: DateTime<Utc>,
}

/// Plans a recovery. A backup that is lost is left out, and one that is not complete yet is taken only where no other reaches
/// the moment.
///
/// # Errors
/// [`Kind::NotRecoverable`] with the nearest moments that can be reached; [`Kind::Damaged`] when the backup that is named, or
/// every one there is, cannot be recovered from.
pub async fn plan(stored: &Stored<'_>, wanted: &Wanted) -> Result<RecoveryPlan> {
    let catalog = stored.reader.catalog().await?;
    let stands = stands(stored.reader, &catalog, stored.volumes).await?;
    let standing: Vec<(Known, Standing)> =
        catalog.iter().zip(stands).map(|(entry, stand)| (known(entry), stand.standing)).collect();
    refuse_lost(&standing, wanted)?;
    if wanted.backup.is_none() && wanted.target.as_ref().is_none_or(|target| *target == Target::Latest) {
        newest_is_known(stored.reader, &wanted.shard).await?;
    }
    let whole = those(&standing, |standing| !standing.is_lost() && *standing != Standing::Pending);
    let there = those(&standing, |standing| !standing.is_lost());
    let archive = stored.archive.checked().await?;
    let mut plan = match decided(stored, &archive, &whole, &catalog, wanted).await {
        Err(fault) if fault.kind == Kind::NotRecoverable && there.len() > whole.len() => {
            decided(stored, &archive, &there, &catalog, wanted).await?
        }
        plan => plan?,
    };
    plan.latest = latest(&plan, &archive, wanted, stored.now);
    plan.findings = findings(&plan, &standing, wanted, stored.now);
    Ok(plan)
}

fn those(standing: &[(Known, Standing)], fit: impl Fn(&Standing) -> bool) -> Vec<Known> {
    standing.iter().filter(|(_, standing)| fit(standing)).map(|(known, _)| known.clone()).collect()
}

/// The newest moment is not known where the end of the log is lost, or cannot be read.
async fn newest_is_known(reader: &Reader, shard: &ShardName) -> Result<()> {
    reader.ends_well().await.map_err(|fault| match fault.kind {
        Kind::Damaged => fault.during(format_args!("recover shard {shard} to latest")).hint(format!(
            "bring the object back, or say from which backup: --backup ID (`backstop backups {shard}`)"
        )),
        _ => fault,
    })
}

fn refuse_lost(standing: &[(Known, Standing)], wanted: &Wanted) -> Result<()> {
    let lost = |(known, standing): &(Known, Standing)| match standing {
        Standing::Lost(why) => Some(format!("backup {} cannot be recovered from: {why}", known.backup_id)),
        _ => None,
    };
    let shard = &wanted.shard;
    let named = standing.iter().find(|(known, _)| wanted.backup.as_ref() == Some(&known.backup_id));
    if let Some(message) = named.and_then(lost) {
        let hint = format!("recover from another backup: `backstop backups {shard}` lists them");
        return Err(Fault::new(Kind::Damaged, message).hint(hint));
    }
    let all: Vec<String> = standing.iter().filter_map(lost).collect();
    if all.is_empty() || all.len() < standing.len() {
        return Ok(());
    }
    Err(Fault::new(Kind::Damaged, format!("recover shard {shard}: {}", all.join("; ")))
        .hint(format!("make a backup while there is a server: `backstop backup {shard}`")))
}

/// Decides among these backups.
async fn decided(
    stored: &Stored<'_>,
    archive: &Archive,
    backups: &[Known],
    catalog: &[CatalogEntry],
    wanted: &Wanted,
) -> Result<RecoveryPlan> {
    let sight = Sight { reader: stored.archive, contents: archive, backups };
    if let (Ending::Join, Some(target)) = (wanted.ending, &wanted.target) {
        joinable(&sight, target, wanted).await?;
    }
    let decided = match &wanted.target {
        Some(target) => toward(&sight, target, wanted).await?,
        None => {
            let own = choose_backup(&wanted.shard, backups, &Target::Latest, wanted.backup.as_ref());
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
        listen: wanted.listen.clone(),
        ending: wanted.ending,
        sizes: entry.map_or(Sizes::default(), |entry| entry.sizes),
    };
    Ok(recovery_plan(&request, &decided))
}

/// How new `latest` of the current line is.
fn latest(plan: &RecoveryPlan, archive: &Archive, wanted: &Wanted, now: DateTime<Utc>) -> Option<Latest> {
    let (replay, current) = (plan.replay.as_ref()?, archive.current()?);
    let meant = wanted.target == Some(Target::Latest) && replay.line == current.number;
    meant.then(|| Latest::of_archive(replay.last_commit, archive.alive.as_ref(), now))
}

fn findings(
    plan: &RecoveryPlan,
    standing: &[(Known, Standing)],
    wanted: &Wanted,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let alone = (wanted.target == Some(Target::Latest) && plan.replay.is_none())
        .then(|| newest_backup(plan.taken_at, now));
    let age = plan.latest.as_ref().map(Latest::finding).or(alone);
    age.into_iter().chain(planned_from(&plan.backup_id, plan.taken_at, standing)).collect()
}

/// What a decision looks at.
struct Sight<'a> {
    reader: &'a ArchiveReader,
    contents: &'a Archive,
    backups: &'a [Known],
}

/// Only a server that is taken up to the newest moment can join; an older one would be no older once it has caught up.
async fn joinable(sight: &Sight<'_>, target: &Target, wanted: &Wanted) -> Result<()> {
    if *target == Target::Latest && wanted.line.is_none() {
        return Ok(());
    }
    let at = toward(sight, target, wanted).await?;
    let newest = Wanted { line: None, backup: None, ..wanted.clone() };
    let newest = toward(sight, &Target::Latest, &newest).await?;
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
async fn toward<'a>(sight: &Sight<'a>, target: &'a Target, wanted: &'a Wanted) -> Result<Decided<'a>> {
    let (shard, line, backup) = (&wanted.shard, wanted.line, wanted.backup.as_ref());
    let quest = Quest { shard, archive: sight.contents, backups: sight.backups, target, line, backup };
    match quest.decide()? {
        Toward::Decided(decided) => Ok(decided),
        Toward::Needs(within) => {
            let bytes = sight.reader.open(&within.segment).await?;
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
        on_line: entry.facts.on_line,
    }
}
