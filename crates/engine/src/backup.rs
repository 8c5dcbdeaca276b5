//! Backup: a snapshot of one instance, stored, and committed to the repository.
//!
//! A backup is visible only after its commit. If the snapshot itself is the backup (EBS), only its
//! ids are stored, and the backup waits for its blocks after the commit, without any lock. A killed
//! run leaves a lease that the next run supersedes, artefacts named after the run that the next
//! command on this host removes, and packs that `prune` sweeps.

use std::time::Duration;

use backstop_policy::backup_availability::availability_findings;
use backstop_policy::shard_identity::{ShardBinding, ShardHistory};
use backstop_policy::tested_versions::version_finding;
use backstop_policy::topology::doubt;
use backstop_repo::{
    ArchiveReader, CatalogEntry, Repository, ShardReader, ShardWriter, Storage, StoredBackup,
};
use backstop_types::archive::Archive;
use backstop_types::backup::{BackupFacts, BackupKind, BackupSource, BackupTimeline, Sizes, VolumeState};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::{Finding, Severity};
use backstop_types::ids::{BackupId, ShardName};
use backstop_types::progress::Progress;
use backstop_types::topology::SourceChoice;
use chrono::{DateTime, Utc};

use crate::backup_health::backups_with_health;
use crate::context::{RunContext, new_run_id};
use crate::ports::{
    BackupInstance, BackupInstances, Schemas, SnapshotData, SnapshotDir, TakenSnapshot, VolumeSnapshots,
};
use crate::report::{BackupReport, EbsSnapshots};
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
    /// The instance to back up, chosen by the shard's rules.
    pub choice: &'a SourceChoice,
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

/// Backs up a shard, unless its occasion already has a backup.
///
/// # Errors
/// Returns [`ErrorKind::Held`] if another run holds the lease of the shard, [`ErrorKind::Refused`]
/// if a guard refuses (nothing was touched then), and otherwise the fault that kept the backup from
/// being complete: there is no partial success.
pub async fn backup(backup: &Backup<'_>) -> Result<BackupReport> {
    let run = new_run_id(&backup.ctx.host)?;
    let instance = backup.ctx.unless_stopped(open(backup)).await?;
    let mut writer = backup.ctx.unless_stopped(acquire_lease(backup)).await?;
    let outcome = backup.ctx.unless_stopped(run_steps(backup, &run, &instance, &mut writer)).await;
    remove_leftovers(backup, &run, &instance, &writer).await;
    let released = backup.ctx.step("release", writer.release()).await;
    let report = outcome?;
    if let Err(error) = released {
        backup
            .ctx
            .reporter
            .notice(&format!("the backup is committed, but its lease was not released: {error}"));
    }
    Ok(report)
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

async fn run_steps(
    backup: &Backup<'_>,
    run: &BackupId,
    instance: &BackupInstance,
    writer: &mut ShardWriter,
) -> Result<BackupReport> {
    // Checked under the lease, so that no other delivery makes one in between.
    if let Some(made) = already_made(writer.reader(), backup.occasion, backup.ctx).await? {
        return Ok(made);
    }
    report_lost_backups(backup, writer.reader()).await?;
    let mut findings = source_doubts(backup);
    findings.extend(refuse_foreign_history(backup, writer.reader()).await?);
    findings.extend(compare_with_primary(backup).await);
    let begun = (backup.ctx.host.clock.now(), backup.ctx.host.clock.monotonic());
    let archive = backup.repository.archive(backup.shard);
    let before = readable_archive(backup, &archive).await?;
    let events = recorded_events::events_before(backup.choice, backup.schemas, backup.ctx).await;
    let taken = backup.ctx.step("snapshot", instance.snapshots.take(run)).await?;
    let events = recorded_events::events_after(events, backup.schemas, backup.ctx).await;
    let plugins = recorded_events::plugins(backup.choice, backup.schemas, backup.ctx).await;
    findings.extend(recorded_events::finding(events.as_ref()));
    let stored = backup.ctx.step("store", store(backup, instance, &taken, writer)).await?;
    let storage = stored.storage().clone();
    let on_timeline = match before {
        Some(before) => find_timeline(backup, &taken, &before, &archive).await?,
        None => None,
    };
    let facts =
        BackupFacts { on_timeline, events, plugins, ..facts(backup, run, instance, &taken, begun, findings) };
    let entry = backup.ctx.step("commit", writer.commit(facts, stored)).await?;
    let state = complete(backup, instance, &taken, writer).await?;
    Ok(BackupReport { ebs: ebs(storage, state), ..report(&entry) })
}

/// Reports earlier backups that cannot be recovered from: an EBS snapshot may fail after its backup
/// was committed. They stay in the list, since their state in EC2 may change, and count for
/// nothing.
async fn report_lost_backups(backup: &Backup<'_>, reader: &ShardReader) -> Result<()> {
    let Some(volumes) = backup.volumes else { return Ok(()) };
    let catalog = reader.catalog().await?;
    let backups = backups_with_health(reader, &catalog, volumes).await?;
    for finding in availability_findings(backup.shard, &backups) {
        backup.ctx.reporter.notice(&finding.notice());
    }
    Ok(())
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
    backup: &Backup<'_>,
    taken: &TakenSnapshot,
    before: &Archive,
    archive: &ArchiveReader,
) -> Result<Option<BackupTimeline>> {
    let Some(after) = readable_archive(backup, archive).await? else { return Ok(None) };
    let on_timeline =
        BackupTimeline::of(before, &after, taken.lineage.server_uuid, &taken.position.gtid_executed);
    if on_timeline == Some(BackupTimeline::None) {
        backup.ctx.reporter.notice(&format!(
            "{} lacks its own archived transactions, or a new timeline began during the backup: no archived transaction can be replayed on \
             this backup (make another backup when the archiver runs)",
            backup.choice.endpoint
        ));
    }
    Ok(on_timeline)
}

fn facts(
    backup: &Backup<'_>,
    run: &BackupId,
    instance: &BackupInstance,
    taken: &TakenSnapshot,
    begun: (DateTime<Utc>, Duration),
    findings: Vec<Finding>,
) -> BackupFacts {
    BackupFacts {
        backup_id: run.clone(),
        shard: backup.shard.clone(),
        kind: backup.kind,
        occasion: backup.occasion.map(str::to_owned),
        source: BackupSource { endpoint: backup.choice.endpoint.clone(), role: backup.choice.role },
        source_reason: backup.choice.reason.clone(),
        server_version: backup.choice.state.version.clone(),
        gtid_executed: taken.position.gtid_executed.clone(),
        on_timeline: None,
        freeze: taken.freeze.clone(),
        lineage: taken.lineage.clone(),
        settings: instance.settings.clone(),
        started_at: begun.0,
        taken_at: taken.taken_at,
        seconds: (backup.ctx.host.clock.monotonic() - begun.1).as_secs_f64(),
        servers: backup.choice.servers.clone(),
        events: None,
        plugins: Vec::new(),
        findings,
        broken_tables: taken.broken_tables.clone(),
    }
}

/// Opens the source, and lets the guards refuse before the lease is taken and anything is touched.
async fn open(backup: &Backup<'_>) -> Result<BackupInstance> {
    backup
        .ctx
        .step("check", async {
            let instance = backup.instances.open(backup.choice).await?;
            source_doubts(backup).iter().for_each(|finding| backup.ctx.reporter.notice(&finding.what));
            refuse_problems(&instance.snapshots.check().await?, backup)?;
            Ok(instance)
        })
        .await
}

/// Refuses a source of another history than the shard's backups. Called under the lease, so that it
/// compares with the newest backup.
async fn refuse_foreign_history(backup: &Backup<'_>, reader: &ShardReader) -> Result<Option<Finding>> {
    let (catalog, adopted) = tokio::try_join!(reader.catalog(), reader.adopted())?;
    let bound = ShardBinding { newest: catalog.last().map(|entry| &entry.facts), adopted: adopted.as_ref() };
    let source = ShardHistory::from(backup.choice);
    bound.admit(backup.shard, &source)?;
    let gone_back = bound.gone_back(backup.shard, &source);
    gone_back.iter().for_each(|finding| backup.ctx.reporter.notice(&finding.what));
    Ok(gone_back)
}

/// Compares the source's tables with the primary's. A backup never fails because of that.
async fn compare_with_primary(backup: &Backup<'_>) -> Option<Finding> {
    let finding = compare_schemas::compare_tables(backup.shard, backup.choice, backup.schemas).await?;
    if finding.severity == Severity::Ok {
        return None;
    }
    backup.ctx.reporter.notice(&finding.what);
    Some(finding)
}

/// Returns findings against the source that do not suffice to refuse it.
fn source_doubts(backup: &Backup<'_>) -> Vec<Finding> {
    let (endpoint, state) = (&backup.choice.endpoint, &backup.choice.state);
    let version = version_finding(backup.shard, &endpoint.to_string(), &state.version);
    doubt(backup.shard, endpoint, state).into_iter().chain(version).collect()
}

fn refuse_problems(findings: &[Finding], backup: &Backup<'_>) -> Result<()> {
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        backup.ctx.reporter.notice(&finding.what);
    }
    let problems: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = problems.iter().map(|finding| finding.what.as_str()).collect();
    let todo: Vec<_> = problems.iter().filter_map(|finding| finding.todo.as_deref()).collect();
    let message = format!("cannot back up {} safely: {}", backup.choice.endpoint, what.join("; "));
    Err(Error::refused(message).hint(todo.join("; ")))
}

async fn acquire_lease(backup: &Backup<'_>) -> Result<ShardWriter> {
    backup.ctx.step("claim", backup.repository.acquire_lease(backup.shard, "backup")).await
}

/// Stores the snapshot's files, or the ids of the volume snapshots.
async fn store(
    backup: &Backup<'_>,
    instance: &BackupInstance,
    taken: &TakenSnapshot,
    writer: &mut ShardWriter,
) -> Result<StoredBackup> {
    match instance.snapshots.open(&taken.snapshot).await? {
        SnapshotData::Tree(opened) => store_tree(backup, instance, taken, &opened, writer).await,
        SnapshotData::Volumes(volumes) => {
            let sizes = Sizes { data_bytes: volumes.bytes, ..Sizes::default() };
            Ok(writer.store_ebs(volumes.snapshot_ids, volumes.region, sizes))
        }
    }
}

/// Stores the changes since the newest backup of the same history, or everything.
async fn store_tree(
    backup: &Backup<'_>,
    instance: &BackupInstance,
    taken: &TakenSnapshot,
    opened: &SnapshotDir,
    writer: &mut ShardWriter,
) -> Result<StoredBackup> {
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

/// Waits until a snapshot that is the backup has all its blocks. If it fails, the backup is
/// withdrawn; if it takes longer than the wait, the backup stays committed and the snapshot
/// completes by itself.
async fn complete(
    backup: &Backup<'_>,
    instance: &BackupInstance,
    taken: &TakenSnapshot,
    writer: &mut ShardWriter,
) -> Result<VolumeState> {
    if !instance.snapshots.is_backup() {
        return Ok(VolumeState::Completed);
    }
    let state = backup.ctx.step("complete", instance.snapshots.complete(&taken.snapshot)).await?;
    if state == VolumeState::Pending {
        let text = "the backup is committed; EC2 completes its snapshot in the background";
        backup.ctx.reporter.remark(text);
    }
    if !matches!(state, VolumeState::Error | VolumeState::Missing) {
        return Ok(state);
    }
    let run = &taken.snapshot.run;
    // The backup is withdrawn even if the clocks do not agree: its grace period then uses this
    // host's clock.
    let now = backup.ctx.host.clock.now();
    let now = writer.agreed_time(now).await.unwrap_or(now);
    writer.condemn(std::slice::from_ref(run), now).await?;
    let message =
        format!("cannot complete backup {run}: its EBS snapshot failed, so the backup was withdrawn");
    Err(Error::failed(message)
        .hint("repeat the backup; if it fails again, check the volume in the EC2 console"))
}

/// Removes the snapshot and its artefacts, also after a fault, unless the snapshot is the data of a
/// committed backup. The next command removes what cannot be removed now.
async fn remove_leftovers(
    backup: &Backup<'_>,
    run: &BackupId,
    instance: &BackupInstance,
    writer: &ShardWriter,
) {
    let cleared = backup.ctx.step("clear", async {
        // Check the repository and not the outcome: the answer to a commit may have been lost.
        if instance.snapshots.is_backup() && is_committed(run, writer).await? {
            return Ok(());
        }
        for snapshot in instance.snapshots.list().await?.into_iter().filter(|each| each.run == *run) {
            instance.snapshots.release(&snapshot).await?;
        }
        Ok(())
    });
    if let Err(error) = cleared.await {
        backup.ctx.reporter.notice(&format!("cannot remove the leftovers of run {run}: {error}"));
    }
}

async fn is_committed(run: &BackupId, writer: &ShardWriter) -> Result<bool> {
    let catalog = writer.reader().catalog().await?;
    Ok(catalog.iter().any(|entry| entry.facts.backup_id == *run))
}

/// Returns the EBS snapshots that hold a backup's data, if it is in EBS.
pub fn ebs(storage: Storage, state: impl Into<Option<VolumeState>>) -> Option<EbsSnapshots> {
    match storage {
        Storage::Ebs { snapshot_ids, region } => {
            Some(EbsSnapshots { region, snapshot_ids, state: state.into() })
        }
        Storage::Blocks { .. } => None,
    }
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
