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
    Decided, Ending, EndingFit, Known, Latest, Newest, PlanRequest, Quest, RecoveryPlan, Replay, Toward,
    choose_backup, fitting, newest_backup, preferred, recovery_plan,
};
use backstop_model::standing::{Standing, planned_from};
use backstop_model::target::Target;
use backstop_repo::{ArchiveReader, CatalogEntry, Reader};
use chrono::{DateTime, Utc};

use crate::ports::VolumeSnapshots;
use crate::standing::standings;

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
    /// The end of the recovery; `None`: to be chosen by the plan.
    pub ending: Option<Ending>,
}

impl Wanted {
    /// A server by itself at a moment.
    pub fn standalone(shard: &ShardName, target: Target, line: Option<u32>) -> Self {
        Self {
            shard: shard.clone(),
            target: Some(target),
            line,
            backup: None,
            into: None,
            port: None,
            listen: None,
            ending: Some(Ending::Standalone),
        }
    }
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
    Ground::survey(stored).await?.plan(wanted).await
}

/// Everything that plans rest on, looked at once.
pub struct Ground<'a> {
    stored: &'a Stored<'a>,
    catalog: Vec<CatalogEntry>,
    standing: Vec<(Known, Standing)>,
    archive: Archive,
}

impl<'a> Ground<'a> {
    /// Looks at the backups and the archive.
    ///
    /// # Errors
    /// The store's, and EC2's where backups are kept there.
    pub async fn survey(stored: &'a Stored<'a>) -> Result<Self> {
        let catalog = stored.reader.catalog().await?;
        let standing = standings(stored.reader, &catalog, stored.volumes).await?;
        let archive = stored.archive.checked().await?;
        Ok(Self { stored, catalog, standing, archive })
    }

    /// Plans a recovery.
    ///
    /// # Errors
    /// As [`plan`].
    pub async fn plan(&self, wanted: &Wanted) -> Result<RecoveryPlan> {
        refuse_lost(&self.standing, wanted)?;
        if wanted.backup.is_none() && wanted.target.as_ref().is_none_or(|target| *target == Target::Latest) {
            newest_is_known(self.stored.reader, &wanted.shard).await?;
        }
        let whole = those(&self.standing, |standing| !standing.is_lost() && *standing != Standing::Pending);
        let there = those(&self.standing, |standing| !standing.is_lost());
        let mut plan = match self.decided(&whole, wanted).await {
            Err(fault) if fault.kind == Kind::NotRecoverable && there.len() > whole.len() => {
                self.decided(&there, wanted).await?
            }
            plan => plan?,
        };
        plan.latest = latest(&plan, &self.archive, wanted, self.stored.now);
        plan.findings = findings(&plan, &self.standing, wanted, self.stored.now);
        Ok(plan)
    }

    /// Decides among these backups.
    async fn decided(&self, backups: &[Known], wanted: &Wanted) -> Result<RecoveryPlan> {
        let sight = Sight { reader: self.stored.archive, contents: &self.archive, backups };
        let decided = match &wanted.target {
            Some(target) => toward(&sight, target, wanted).await?,
            None => {
                let own = choose_backup(&wanted.shard, backups, &Target::Latest, wanted.backup.as_ref());
                Decided { chosen: own.map_err(Fault::from)?, replay: None }
            }
        };
        let endings = endings(&sight, &decided, wanted).await?;
        if let Some(refused) = endings.iter().find(|fits| Some(fits.ending) == wanted.ending && !fits.fits) {
            return Err(
                Fault::refused(refused.why.clone()).hint("recover it --standalone, or join it --to latest")
            );
        }
        let id = &decided.chosen.backup.backup_id;
        let entry = self.catalog.iter().find(|entry| entry.facts.backup_id == *id);
        let request = PlanRequest {
            shard: wanted.shard.clone(),
            target: wanted.target.clone().unwrap_or(Target::Latest),
            into: wanted.into.clone(),
            port: wanted.port,
            listen: wanted.listen.clone(),
            ending: wanted.ending.unwrap_or_else(|| preferred(&endings)),
            sizes: entry.map_or(Sizes::default(), |entry| entry.sizes),
        };
        Ok(RecoveryPlan { endings, ..recovery_plan(&request, &decided) })
    }
}

/// Which endings fit what was decided.
async fn endings(sight: &Sight<'_>, decided: &Decided<'_>, wanted: &Wanted) -> Result<Vec<EndingFit>> {
    let target = wanted.target.clone().unwrap_or(Target::Latest);
    let of_shard = Wanted { line: None, backup: None, ..wanted.clone() };
    let newest = if target == Target::Latest && wanted.line.is_none() {
        Newest::Meant
    } else {
        match toward(sight, &Target::Latest, &of_shard).await {
            Ok(newest) => Newest::Holds(held(&newest)),
            Err(fault) => Newest::Unknown(fault.to_string()),
        }
    };
    Ok(fitting(&target, &held(decided), &newest))
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
