//! Plan: the backup that a recovery would use, and every step it would take. Reads only the
//! catalog, the archive's index and at most one segment; for backups in EBS it requests the state
//! of their snapshots.

use std::path::PathBuf;

use backstop_binlog::segment_commits;
use backstop_policy::backup_availability::{BackupAvailability, plan_findings};
use backstop_policy::plan::{
    Ending, EndingFit, LatestAge, NewestPoint, PlanRequest, RecoveryChoice, RecoveryOutcome, RecoveryPlan,
    RecoveryQuery, Replay, choose_backup, endings_that_fit, newest_backup, preferred_ending, recovery_plan,
};
use backstop_policy::recovery_target::RecoveryTarget;
use backstop_repo::{ArchiveReader, CatalogEntry, ShardReader};
use backstop_types::archive::Archive;
use backstop_types::backup::{BackupRef, Sizes};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, ShardName};
use backstop_types::listen_address::ListenAddress;
use chrono::{DateTime, Utc};

use crate::backup_health::backups_with_health;
use crate::ports::VolumeSnapshots;

/// Options of a plan.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Shard of the backup.
    pub shard: ShardName,
    /// The target; `None`: the moment of the named backup.
    pub target: Option<RecoveryTarget>,
    /// Timeline of the archive; `None`: the current one.
    pub timeline: Option<u32>,
    /// The backup to use, if it is named.
    pub backup: Option<BackupId>,
    /// The target directory, if it is known yet.
    pub into: Option<PathBuf>,
    /// TCP port, if it is given.
    pub port: Option<u16>,
    /// Addresses that it listens on in service, if other than loopback.
    pub listen: Option<ListenAddress>,
    /// Ending of the recovery; `None`: the plan chooses.
    pub ending: Option<Ending>,
}

impl PlanOptions {
    /// Returns options for a standalone server at a moment.
    pub fn standalone(shard: &ShardName, target: RecoveryTarget, timeline: Option<u32>) -> Self {
        Self {
            shard: shard.clone(),
            target: Some(target),
            timeline,
            backup: None,
            into: None,
            port: None,
            listen: None,
            ending: Some(Ending::Standalone),
        }
    }
}

/// Inputs of a plan.
pub struct PlanInputs<'a> {
    /// The backups.
    pub reader: &'a ShardReader,
    /// The archive.
    pub archive: &'a ArchiveReader,
    /// EBS snapshots that may hold backups.
    pub volumes: &'a dyn VolumeSnapshots,
    /// The time of day.
    pub now: DateTime<Utc>,
}

/// Plans a recovery. A lost backup is left out, and one that is not complete yet is used only if no
/// other reaches the target.
///
/// # Errors
/// Returns [`ErrorKind::NotRecoverable`] with the nearest moments that can be reached;
/// [`ErrorKind::Damaged`] if the named backup, or every backup, cannot be recovered from.
pub async fn plan(inputs: &PlanInputs<'_>, options: &PlanOptions) -> Result<RecoveryPlan> {
    Planner::load(inputs).await?.plan(options).await
}

/// Inputs of plans, loaded once.
pub struct Planner<'a> {
    inputs: &'a PlanInputs<'a>,
    catalog: Vec<CatalogEntry>,
    availability: Vec<(BackupRef, BackupAvailability)>,
    archive: Archive,
}

impl<'a> Planner<'a> {
    /// Loads the backups and the archive.
    ///
    /// # Errors
    /// Returns the store's errors, and EC2's if backups are kept there.
    pub async fn load(inputs: &'a PlanInputs<'a>) -> Result<Self> {
        let catalog = inputs.reader.catalog().await?;
        let availability = backups_with_health(inputs.reader, &catalog, inputs.volumes).await?;
        let archive = inputs.archive.checked().await?;
        Ok(Self { inputs, catalog, availability, archive })
    }

    /// Plans a recovery.
    ///
    /// # Errors
    /// As [`plan`].
    pub async fn plan(&self, options: &PlanOptions) -> Result<RecoveryPlan> {
        refuse_lost(&self.availability, options)?;
        if options.backup.is_none()
            && options.target.as_ref().is_none_or(|target| *target == RecoveryTarget::Latest)
        {
            newest_is_known(self.inputs.reader, &options.shard).await?;
        }
        let whole = backups_with(&self.availability, |availability| {
            !availability.is_lost() && *availability != BackupAvailability::Pending
        });
        let there = backups_with(&self.availability, |availability| !availability.is_lost());
        let mut plan = match self.decided(&whole, options).await {
            Err(error) if error.kind == ErrorKind::NotRecoverable && there.len() > whole.len() => {
                self.decided(&there, options).await?
            }
            plan => plan?,
        };
        plan.latest = latest(&plan, &self.archive, options, self.inputs.now);
        plan.findings = findings(&plan, &self.availability, options, self.inputs.now);
        Ok(plan)
    }

    /// Decides among these backups.
    async fn decided(&self, backups: &[BackupRef], options: &PlanOptions) -> Result<RecoveryPlan> {
        let facts = DecisionInputs { reader: self.inputs.archive, contents: &self.archive, backups };
        let decided = match &options.target {
            Some(target) => resolve(&facts, target, options).await?,
            None => {
                let own =
                    choose_backup(&options.shard, backups, &RecoveryTarget::Latest, options.backup.as_ref());
                RecoveryChoice { chosen: own.map_err(Error::from)?, replay: None }
            }
        };
        let endings = endings(&facts, &decided, options).await?;
        if let Some(refused) = endings.iter().find(|fits| Some(fits.ending) == options.ending && !fits.fits) {
            return Err(Error::refused(refused.why.clone())
                .hint("recover it with --standalone, or join it with --to latest"));
        }
        let id = &decided.chosen.backup.backup_id;
        let entry = self.catalog.iter().find(|entry| entry.facts.backup_id == *id);
        let request = PlanRequest {
            shard: options.shard.clone(),
            target: options.target.clone().unwrap_or(RecoveryTarget::Latest),
            into: options.into.clone(),
            port: options.port,
            listen: options.listen.clone(),
            ending: options.ending.unwrap_or_else(|| preferred_ending(&endings)),
            sizes: entry.map_or(Sizes::default(), |entry| entry.sizes),
        };
        Ok(RecoveryPlan { endings, ..recovery_plan(&request, &decided) })
    }
}

/// Returns the endings that fit the decision.
async fn endings(
    facts: &DecisionInputs<'_>,
    decided: &RecoveryChoice<'_>,
    options: &PlanOptions,
) -> Result<Vec<EndingFit>> {
    let target = options.target.clone().unwrap_or(RecoveryTarget::Latest);
    let of_shard = PlanOptions { timeline: None, backup: None, ..options.clone() };
    let newest = if target == RecoveryTarget::Latest && options.timeline.is_none() {
        NewestPoint::Meant
    } else {
        match resolve(facts, &RecoveryTarget::Latest, &of_shard).await {
            Ok(newest) => NewestPoint::Holds(held(&newest)),
            Err(error) => NewestPoint::Unknown(error.to_string()),
        }
    };
    Ok(endings_that_fit(&target, &held(decided), &newest))
}

fn backups_with(
    availability: &[(BackupRef, BackupAvailability)],
    fit: impl Fn(&BackupAvailability) -> bool,
) -> Vec<BackupRef> {
    availability
        .iter()
        .filter(|(_, availability)| fit(availability))
        .map(|(known, _)| known.clone())
        .collect()
}

/// Fails if the newest moment is unknown because the end of the log is lost or unreadable.
async fn newest_is_known(reader: &ShardReader, shard: &ShardName) -> Result<()> {
    reader.ends_well().await.map_err(|error| match error.kind {
        ErrorKind::Damaged => error.during(format_args!("cannot recover {shard} to latest")).hint(format!(
            "restore the object, or name a backup with --backup ID (`backstop backups {shard}` lists them)"
        )),
        _ => error,
    })
}

fn refuse_lost(availability: &[(BackupRef, BackupAvailability)], options: &PlanOptions) -> Result<()> {
    let lost = |(known, availability): &(BackupRef, BackupAvailability)| match availability {
        BackupAvailability::Lost(why) => {
            Some(format!("backup {} is not recoverable: {why}", known.backup_id))
        }
        _ => None,
    };
    let shard = &options.shard;
    let named = availability.iter().find(|(known, _)| options.backup.as_ref() == Some(&known.backup_id));
    if let Some(message) = named.and_then(lost) {
        let hint = format!("recover from another backup: `backstop backups {shard}` lists them");
        return Err(Error::new(ErrorKind::Damaged, message).hint(hint));
    }
    let all: Vec<String> = availability.iter().filter_map(lost).collect();
    if all.is_empty() || all.len() < availability.len() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Damaged, format!("cannot recover shard {shard}: {}", all.join("; ")))
        .hint(format!("make a backup while a server runs: `backstop backup {shard}`")))
}

/// Returns the age of `latest` on the current timeline.
fn latest(
    plan: &RecoveryPlan,
    archive: &Archive,
    options: &PlanOptions,
    now: DateTime<Utc>,
) -> Option<LatestAge> {
    let (replay, current) = (plan.replay.as_ref()?, archive.current()?);
    let meant = options.target == Some(RecoveryTarget::Latest) && replay.timeline == current.number;
    meant.then(|| LatestAge::of_archive(replay.last_commit, archive.alive.as_ref(), now))
}

fn findings(
    plan: &RecoveryPlan,
    availability: &[(BackupRef, BackupAvailability)],
    options: &PlanOptions,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let alone = (options.target == Some(RecoveryTarget::Latest) && plan.replay.is_none())
        .then(|| newest_backup(plan.taken_at, now));
    let age = plan.latest.as_ref().map(LatestAge::finding).or(alone);
    age.into_iter().chain(plan_findings(&plan.backup_id, plan.taken_at, availability)).collect()
}

/// Inputs of a decision.
struct DecisionInputs<'a> {
    reader: &'a ArchiveReader,
    contents: &'a Archive,
    backups: &'a [BackupRef],
}

fn held(decided: &RecoveryChoice<'_>) -> GtidSet {
    decided.replay.as_ref().map_or_else(|| decided.chosen.backup.gtid_executed.clone(), Replay::reached)
}

/// Decides. If the target is within a segment of the archive, reads that segment.
async fn resolve<'a>(
    facts: &DecisionInputs<'a>,
    target: &'a RecoveryTarget,
    options: &'a PlanOptions,
) -> Result<RecoveryChoice<'a>> {
    let (shard, timeline, backup) = (&options.shard, options.timeline, options.backup.as_ref());
    let query =
        RecoveryQuery { shard, archive: facts.contents, backups: facts.backups, target, timeline, backup };
    match query.decide()? {
        RecoveryOutcome::Ready(decided) => Ok(decided),
        RecoveryOutcome::NeedsSegment(within) => {
            let bytes = facts.reader.open(&within.segment).await?;
            let commits = segment_commits(bytes, within.segment.start, within.segment.end).await?;
            Ok(query.within(&within, &commits)?)
        }
    }
}
