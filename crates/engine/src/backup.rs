//! Backup: a snapshot of one instance, stored, and committed to the repository.
//!
//! A backup is visible only after its commit. If the snapshot itself is the backup (EBS), only its
//! ids are stored, and the run waits for its blocks, as long as it may, after the commit and
//! without any lock or lease. The one that sees the end of the snapshots records it
//! ([`record_completion`]). A killed run leaves a lease that the next run supersedes, artefacts named after the run that the next
//! command on this host removes, and packs that `prune` sweeps.

use std::time::Duration;

use backstop_policy::backup_availability::{BackupAvailability, availability_findings};
use backstop_policy::shard_identity::{ShardBinding, ShardHistory};
use backstop_policy::tested_versions::version_finding;
use backstop_policy::topology::doubt;
use backstop_repo::{ArchiveReader, CatalogEntry, Repository, ShardReader, ShardWriter, StoredBackup};
use backstop_types::archive::Archive;
use backstop_types::backup::{
    BackupFacts, BackupKind, BackupRef, BackupSource, BackupTimeline, Sizes, VolumeState,
};
use backstop_types::completion::{Completion, CompletionOutcome};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::{Finding, Severity};
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::progress::Progress;
use backstop_types::topology::SourceChoice;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::backup_health::{backups_with_health, ebs};
use crate::completion::record_completion;
use crate::context::{RunContext, new_run_id};
use crate::last_known_members::MEMBERS_LAST_KNOWN;
use crate::ports::{
    BackupInstance, BackupInstances, Schemas, SnapshotData, SnapshotDir, TakenSnapshot, Topology,
    VolumeSnapshots,
};
use crate::report::{BackupOutcome, BackupReport, EbsSnapshots, SkippedBackup};
use crate::source_selection::{SourceChoiceRules, choose};
use crate::{compare_schemas, datadir_tree, recorded_events};

/// Inputs of a backup.
pub struct Backup<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Trigger of the backup.
    pub kind: BackupKind,
    /// Identifies a trigger that may be delivered twice: one occasion has one backup, and a later
    /// run gets the same one.
    pub occasion: Option<&'a str>,
    /// True if everything is stored, regardless of earlier backups.
    pub full: bool,
    /// Its members, one of which is backed up.
    pub topology: &'a dyn Topology,
    /// Rules for the choice of that member.
    pub rules: SourceChoiceRules<'a>,
    /// Opens the chosen instance.
    pub instances: &'a dyn BackupInstances,
    /// Reads the tables of the instance and of the primary.
    pub schemas: &'a dyn Schemas,
    /// Repository of the backups.
    pub repository: &'a Repository,
    /// EBS snapshots that may hold earlier backups; `None`: their state is not checked.
    pub volumes: Option<&'a dyn VolumeSnapshots>,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
}

/// A backup in progress.
struct BackupRun<'a> {
    backup: &'a Backup<'a>,
    /// Names the backup and every artefact of the run.
    id: BackupId,
    /// The member that is backed up.
    choice: SourceChoice,
    /// That member, opened.
    instance: BackupInstance,
}

/// Backs up a shard, unless its occasion already has a backup. A scheduled occasion is skipped while
/// EC2 still stores the blocks of the backup before it: another snapshot would only wait behind it.
///
/// # Errors
/// Returns [`ErrorKind::Held`] if another run holds the lease of the shard, [`ErrorKind::Refused`]
/// if no member may be backed up or a guard refuses (nothing was touched then), and otherwise the
/// fault that kept the backup from being complete: there is no partial success.
pub async fn backup(backup: &Backup<'_>) -> Result<BackupOutcome> {
    let run = backup.ctx.unless_stopped(open(backup)).await?;
    let mut writer = backup.ctx.unless_stopped(acquire_lease(backup)).await?;
    let outcome = backup.ctx.unless_stopped(run_steps(&run, &mut writer)).await;
    remove_leftovers(&run, &writer).await;
    let reader = writer.reader().clone();
    let released = backup.ctx.step("release", writer.release()).await;
    let (outcome, taken) = match outcome? {
        Step::Ended(outcome) => (outcome, None),
        Step::Committed(report, taken) => (BackupOutcome::Made(report), Some(taken)),
    };
    if let Err(error) = released {
        backup
            .ctx
            .reporter
            .notice(&format!("the backup is committed, but its lease was not released: {error}"));
    }
    match (outcome, taken) {
        (BackupOutcome::Made(report), Some(taken)) => {
            let state = complete(&run, &taken, &report, &reader).await?;
            let ebs = report.ebs.clone().map(|ebs| EbsSnapshots { state: Some(state), ..ebs });
            Ok(BackupOutcome::Made(Box::new(BackupReport { ebs, ..*report })))
        }
        (outcome, _) => Ok(outcome),
    }
}

/// Returns the backup of this occasion, if it was made.
///
/// # Errors
/// Fails if the repository cannot be read.
pub async fn already_made(
    reader: &ShardReader,
    occasion: Option<&str>,
    ctx: &RunContext,
) -> Result<Option<BackupReport>> {
    let Some(occasion) = occasion else { return Ok(None) };
    let catalog = reader.catalog().await?;
    let Some(entry) = catalog.iter().find(|entry| entry.facts.occasion.as_deref() == Some(occasion)) else {
        return Ok(None);
    };
    let id = &entry.facts.backup_id;
    let text = format!("backup {id} was already made for the same occasion ({occasion}): nothing to do");
    ctx.reporter.remark(&text);
    Ok(Some(BackupReport { ebs: ebs(reader.storage_of(entry).await?, None), ..report(entry) }))
}

/// Result of the steps under the lease.
enum Step {
    /// There is nothing more to do.
    Ended(BackupOutcome),
    /// The backup of this snapshot is committed.
    Committed(Box<BackupReport>, TakenSnapshot),
}

async fn run_steps(run: &BackupRun<'_>, writer: &mut ShardWriter) -> Result<Step> {
    let BackupRun { backup, id, choice, instance } = run;
    // Checked under the lease, so that no other delivery makes one in between.
    if let Some(made) = already_made(writer.reader(), backup.occasion, backup.ctx).await? {
        return Ok(Step::Ended(BackupOutcome::Made(Box::new(made))));
    }
    let earlier = earlier_backups(backup, writer.reader()).await?;
    if let Some(skipped) = skipped(backup, &earlier) {
        return Ok(Step::Ended(BackupOutcome::Skipped(skipped)));
    }
    let mut findings = source_doubts(backup.shard, choice);
    findings
        .extend(backup.topology.findings().into_iter().filter(|finding| finding.code == MEMBERS_LAST_KNOWN));
    findings.extend(refuse_foreign_history(run, writer.reader()).await?);
    findings.extend(compare_with_primary(run).await);
    let begun = (backup.ctx.host.clock.now(), backup.ctx.host.clock.monotonic());
    let archive = backup.repository.archive(backup.shard);
    let before = readable_archive(backup, &archive).await?;
    let events = recorded_events::events_before(choice, backup.schemas, backup.ctx).await;
    let taken = backup.ctx.step("snapshot", instance.snapshots.take(id)).await?;
    let events = recorded_events::events_after(events, backup.schemas, backup.ctx).await;
    let plugins = recorded_events::plugins(choice, backup.schemas, backup.ctx).await;
    findings.extend(recorded_events::finding(events.as_ref()));
    let stored = backup.ctx.step("store", store(run, &taken, writer)).await?;
    let storage = stored.storage().clone();
    let on_timeline = match before {
        Some(before) => find_timeline(run, &taken, &before, &archive).await?,
        None => None,
    };
    let facts = BackupFacts { on_timeline, events, plugins, ..facts(run, &taken, begun, findings) };
    let entry = backup.ctx.step("commit", writer.commit(facts, stored)).await?;
    let report = BackupReport { ebs: ebs(storage, VolumeState::Pending), ..report(&entry) };
    Ok(Step::Committed(Box::new(report), taken))
}

/// Returns the earlier backups in EBS with their availability, and reports those that cannot be
/// recovered from: an EBS snapshot may fail after its backup was committed. They count for nothing.
async fn earlier_backups(
    backup: &Backup<'_>,
    reader: &ShardReader,
) -> Result<Vec<(BackupRef, BackupAvailability)>> {
    let Some(volumes) = backup.volumes else { return Ok(Vec::new()) };
    let catalog = reader.catalog().await?;
    let backups = backups_with_health(reader, &catalog, volumes).await?;
    for finding in availability_findings(backup.shard, &backups) {
        backup.ctx.reporter.notice(&finding.notice());
    }
    Ok(backups)
}

/// Decides whether a scheduled occasion is skipped: EC2 allows only a few snapshots of a volume to
/// be pending at once, and takes them one after another.
fn skipped(backup: &Backup<'_>, earlier: &[(BackupRef, BackupAvailability)]) -> Option<SkippedBackup> {
    let pending = earlier.iter().rfind(|(_, availability)| *availability == BackupAvailability::Pending);
    let (pending, _) = pending.filter(|_| backup.kind == BackupKind::Scheduled)?;
    let since = pending.taken_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let reason = format!("EC2 still stores the blocks of backup {}, taken at {since}", pending.backup_id);
    backup.ctx.reporter.notice(&format!("this occasion is skipped: {reason}"));
    Some(SkippedBackup {
        shard: backup.shard.clone(),
        pending: pending.backup_id.clone(),
        pending_since: pending.taken_at,
        reason,
    })
}

/// Returns the contents of the archive; `None` if it cannot be read because it is damaged, which
/// must not prevent a backup.
async fn readable_archive(backup: &Backup<'_>, archive: &ArchiveReader) -> Result<Option<Archive>> {
    match archive.contents().await {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind == ErrorKind::Damaged => {
            backup.ctx.reporter.notice(&format!("the backup does not record its timeline: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.during("cannot determine the timeline of the backup")),
    }
}

/// Finds the timeline of the archive on which the snapshot was taken. Adds a finding if it is on
/// none, since no archive continues it then.
async fn find_timeline(
    run: &BackupRun<'_>,
    taken: &TakenSnapshot,
    before: &Archive,
    archive: &ArchiveReader,
) -> Result<Option<BackupTimeline>> {
    let Some(after) = readable_archive(run.backup, archive).await? else { return Ok(None) };
    let on_timeline =
        BackupTimeline::of(before, &after, taken.lineage.server_uuid, &taken.position.gtid_executed);
    if on_timeline == Some(BackupTimeline::None) {
        run.backup.ctx.reporter.notice(&format!(
            "{} lacks its own archived transactions, or a new timeline began during the backup: no archived transaction can be replayed on \
             this backup (make another backup when the archiver runs)",
            run.choice.endpoint
        ));
    }
    Ok(on_timeline)
}

fn facts(
    run: &BackupRun<'_>,
    taken: &TakenSnapshot,
    begun: (DateTime<Utc>, Duration),
    findings: Vec<Finding>,
) -> BackupFacts {
    let BackupRun { backup, id, choice, instance } = run;
    BackupFacts {
        backup_id: id.clone(),
        shard: backup.shard.clone(),
        kind: backup.kind,
        occasion: backup.occasion.map(str::to_owned),
        source: BackupSource { endpoint: choice.endpoint.clone(), role: choice.role },
        source_reason: choice.reason.clone(),
        server_version: choice.state.version.clone(),
        gtid_executed: taken.position.gtid_executed.clone(),
        on_timeline: None,
        freeze: taken.freeze.clone(),
        lineage: taken.lineage.clone(),
        settings: instance.settings.clone(),
        started_at: begun.0,
        taken_at: taken.taken_at,
        seconds: (backup.ctx.host.clock.monotonic() - begun.1).as_secs_f64(),
        servers: choice.servers.clone(),
        members: choice.members.clone(),
        primary: choice.primary.clone(),
        events: None,
        plugins: Vec::new(),
        findings,
        broken_tables: taken.broken_tables.clone(),
    }
}

/// Chooses and opens the source, and lets the guards refuse before the lease is taken and anything
/// is touched.
async fn open<'a>(backup: &'a Backup<'a>) -> Result<BackupRun<'a>> {
    let ctx = backup.ctx;
    let choice = ctx.step("choose", choose(ctx, backup.topology, backup.rules)).await?;
    ctx.reporter.remark(&format!("backing up {}: {}", choice.endpoint, choice.reason));
    let id = new_run_id(&ctx.host)?;
    let opened = ctx.step("check", async {
        let instance = backup.instances.open(&choice).await?;
        let doubts = source_doubts(backup.shard, &choice);
        doubts.iter().for_each(|finding| ctx.reporter.notice(&finding.what));
        refuse_problems(&instance.snapshots.check().await?, &choice.endpoint, ctx)?;
        Ok(instance)
    });
    let instance = opened.await?;
    Ok(BackupRun { backup, id, choice, instance })
}

/// Refuses a source of another history than the shard's backups. Called under the lease, so that it
/// compares with the newest backup.
async fn refuse_foreign_history(run: &BackupRun<'_>, reader: &ShardReader) -> Result<Option<Finding>> {
    let BackupRun { backup, choice, .. } = run;
    let (catalog, adopted) = tokio::try_join!(reader.catalog(), reader.adopted())?;
    let bound = ShardBinding { newest: catalog.last().map(|entry| &entry.facts), adopted: adopted.as_ref() };
    let source = ShardHistory::from(choice);
    bound.admit(backup.shard, &source)?;
    let gone_back = bound.gone_back(backup.shard, &source);
    gone_back.iter().for_each(|finding| backup.ctx.reporter.notice(&finding.what));
    Ok(gone_back)
}

/// Compares the source's tables with the primary's. A backup never fails because of that.
async fn compare_with_primary(run: &BackupRun<'_>) -> Option<Finding> {
    let BackupRun { backup, choice, .. } = run;
    let finding = compare_schemas::compare_tables(backup.shard, choice, backup.schemas).await?;
    if finding.severity == Severity::Ok {
        return None;
    }
    backup.ctx.reporter.notice(&finding.what);
    Some(finding)
}

/// Returns findings against the source that do not suffice to refuse it.
fn source_doubts(shard: &ShardName, choice: &SourceChoice) -> Vec<Finding> {
    let (endpoint, state) = (&choice.endpoint, &choice.state);
    let version = version_finding(shard, &endpoint.to_string(), &state.version);
    doubt(shard, endpoint, state).into_iter().chain(version).collect()
}

fn refuse_problems(findings: &[Finding], source: &Endpoint, ctx: &RunContext) -> Result<()> {
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        ctx.reporter.notice(&finding.what);
    }
    let problems: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = problems.iter().map(|finding| finding.what.as_str()).collect();
    let todo: Vec<_> = problems.iter().filter_map(|finding| finding.todo.as_deref()).collect();
    let message = format!("cannot back up {source} safely: {}", what.join("; "));
    Err(Error::refused(message).hint(todo.join("; ")))
}

async fn acquire_lease(backup: &Backup<'_>) -> Result<ShardWriter> {
    backup.ctx.step("claim", backup.repository.acquire_lease(backup.shard, "backup")).await
}

/// Stores the snapshot's files, or the ids of the volume snapshots.
async fn store(run: &BackupRun<'_>, taken: &TakenSnapshot, writer: &mut ShardWriter) -> Result<StoredBackup> {
    match run.instance.snapshots.open(&taken.snapshot).await? {
        SnapshotData::Tree(opened) => store_tree(run, taken, &opened, writer).await,
        SnapshotData::Volumes(volumes) => {
            let sizes = Sizes { data_bytes: volumes.bytes, ..Sizes::default() };
            Ok(writer.store_ebs(volumes.snapshot_ids, volumes.region, volumes.volumes, sizes))
        }
    }
}

/// Stores the changes since the newest backup of the same history, or everything.
async fn store_tree(
    run: &BackupRun<'_>,
    taken: &TakenSnapshot,
    opened: &SnapshotDir,
    writer: &mut ShardWriter,
) -> Result<StoredBackup> {
    let BackupRun { backup, instance, .. } = run;
    let parent = if backup.full { None } else { writer.newest_of(&taken.lineage).await? };
    let since = parent.as_ref().map(|manifest| &manifest.facts.lineage);
    let changes = match since {
        Some(since) => instance.snapshots.changes(&taken.snapshot, since).await?,
        None => None,
    };
    let tree = datadir_tree::datadir_tree(opened, changes.as_ref())?;
    let progress = |progress: Progress| backup.ctx.reporter.progress(progress);
    match writer.store(&tree, parent.as_ref(), &progress).await {
        Err(error) if error.kind == ErrorKind::Damaged && parent.is_some() => {
            backup.ctx.reporter.notice(&format!("making a full backup instead of an increment: {error}"));
            let tree = datadir_tree::datadir_tree(opened, None)?;
            writer.store(&tree, None, &progress).await
        }
        stored => {
            let stored = stored?;
            if stored.lost_packs() > 0 {
                backup.ctx.reporter.notice(&format!(
                    "{} packs of earlier backups are missing or damaged: this backup stores the data it needs from them again (`backstop verify {}` lists the affected backups)",
                    stored.lost_packs(),
                    backup.shard
                ));
            }
            Ok(stored)
        }
    }
}

/// Waits until a snapshot that is the backup has all its blocks, as long as this run may, and
/// records the end if it sees it. Otherwise EC2 completes the snapshot in the background, and the
/// event of its end records it.
async fn complete(
    run: &BackupRun<'_>,
    taken: &TakenSnapshot,
    report: &BackupReport,
    reader: &ShardReader,
) -> Result<VolumeState> {
    let BackupRun { backup, id, .. } = run;
    let Some(ebs) = &report.ebs else { return Ok(VolumeState::Completed) };
    let state = awaited_state(run, taken).await;
    let outcome = match state {
        VolumeState::Pending => return Ok(state),
        VolumeState::Completed | VolumeState::Archived => CompletionOutcome::Completed,
        VolumeState::Error | VolumeState::Missing | VolumeState::Recycled => CompletionOutcome::Failed,
    };
    let (backup_id, snapshot_ids) = (id.clone(), ebs.snapshot_ids.clone());
    let completion = Completion { backup_id, outcome, snapshot_ids, at: backup.ctx.host.clock.now() };
    let recorded = match backup.volumes {
        Some(volumes) => record_completion(reader, volumes, &ebs.region, completion).await.map(drop),
        None => Ok(()),
    };
    if outcome == CompletionOutcome::Failed {
        let message =
            format!("cannot complete backup {id}: its EBS snapshot failed, so it counts for nothing");
        return Err(Error::failed(message)
            .hint("repeat the backup; if it fails again, check the volume in the EC2 console"));
    }
    if let Err(error) = recorded {
        backup.ctx.reporter.notice(&format!("the backup is complete, but this is not recorded: {error}"));
    }
    Ok(state)
}

/// Returns the state of the snapshots at the end of the wait. The backup is committed: a wait that
/// is stopped or fails leaves it pending.
async fn awaited_state(run: &BackupRun<'_>, taken: &TakenSnapshot) -> VolumeState {
    let BackupRun { backup, instance, .. } = run;
    let waited = backup.ctx.step("complete", instance.snapshots.complete(&taken.snapshot));
    match backup.ctx.unless_stopped(waited).await {
        Ok(VolumeState::Pending) => {
            let text = "the backup is committed; EC2 completes its snapshot in the background";
            backup.ctx.reporter.remark(text);
            VolumeState::Pending
        }
        Ok(state) => state,
        Err(error) => {
            let text = format!("the backup is committed, but its snapshots are not waited for: {error}");
            backup.ctx.reporter.notice(&text);
            VolumeState::Pending
        }
    }
}

/// Removes the snapshot and its artefacts, also after a fault, unless the snapshot is the data of a
/// committed backup. The next command removes what cannot be removed now.
async fn remove_leftovers(run: &BackupRun<'_>, writer: &ShardWriter) {
    let BackupRun { backup, id, instance, .. } = run;
    let cleared = backup.ctx.step("clear", async {
        // Check the repository and not the outcome: the answer to a commit may have been lost.
        if instance.snapshots.is_backup() && is_committed(id, writer).await? {
            return Ok(());
        }
        for snapshot in instance.snapshots.list().await?.into_iter().filter(|each| each.run == *id) {
            instance.snapshots.release(&snapshot).await?;
        }
        Ok(())
    });
    if let Err(error) = cleared.await {
        backup.ctx.reporter.notice(&format!("cannot remove the leftovers of run {id}: {error}"));
    }
}

async fn is_committed(id: &BackupId, writer: &ShardWriter) -> Result<bool> {
    let catalog = writer.reader().catalog().await?;
    Ok(catalog.iter().any(|entry| entry.facts.backup_id == *id))
}

/// Returns a committed backup as reported and listed, without the fields that only its manifest
/// has.
pub fn report(entry: &CatalogEntry) -> BackupReport {
    let facts = &entry.facts;
    BackupReport {
        backup_id: facts.backup_id.clone(),
        shard: facts.shard.clone(),
        kind: facts.kind,
        source: facts.source.clone(),
        source_reason: facts.source_reason.clone(),
        gtid_executed: facts.gtid_executed.clone(),
        freeze: facts.freeze.clone(),
        parent: entry.parent.clone(),
        sizes: entry.sizes,
        taken_at: facts.taken_at,
        seconds: entry.facts.seconds,
        ebs: None,
        findings: facts.findings.clone(),
    }
}
