//! Backup: a snapshot of one instance, stored, and committed to the repository.
//!
//! Nothing is visible before the commit. Where the snapshot itself is the backup (EBS), only its ids are stored, and that its
//! blocks have arrived is awaited after the commit, outside of every lock. A run that is killed leaves a claim that the next one
//! supersedes, artefacts named after the run that the next command on this host clears, and packs that
//! `prune` sweeps.

use std::time::Duration;

use backstop_model::archive::Archive;
use backstop_model::backup::{BackupFacts, BackupKind, Sizes, Source};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::finding::{Finding, Severity};
use backstop_model::identity::{Bound, Candidate};
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::plan::OnLine;
use backstop_model::progress::Progress;
use backstop_model::proven::version_finding;
use backstop_model::report::{BackupReport, EbsSnapshots, VolumeState};
use backstop_model::standing::standing_findings;
use backstop_model::topology::{Choice, doubt};
use backstop_repo::{ArchiveReader, CatalogEntry, Reader, Repository, Storage, Stored, Writer};
use chrono::{DateTime, Utc};

use crate::ports::{Image, Instance, Instances, Opened, Schemas, Taken, VolumeSnapshots};
use crate::standing::standings;
use crate::world::World;
use crate::{compare, recorded, scan};

/// What a backup is made of.
pub struct Backup<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// What started it.
    pub kind: BackupKind,
    /// What started it, where that can happen twice: for one occasion there is one backup, and who comes later gets it.
    pub occasion: Option<&'a str>,
    /// True if everything is stored, whatever backups there are.
    pub full: bool,
    /// The instance to back up, chosen by the shard's rules.
    pub choice: &'a Choice,
    /// Opens it.
    pub instances: &'a dyn Instances,
    /// Asks it and the primary for their tables.
    pub schemas: &'a dyn Schemas,
    /// Where backups go.
    pub repository: &'a Repository,
    /// The EBS snapshots that earlier backups may be kept in; `None`: nothing is asked of them.
    pub volumes: Option<&'a dyn VolumeSnapshots>,
    /// Time, reporter, stop.
    pub world: &'a World,
}

/// Backs up a shard, unless its occasion already has a backup.
///
/// # Errors
/// [`Kind::Held`] when another run holds the shard, [`Kind::Refused`] when a guard refuses (nothing was
/// touched then), and whatever kept the backup from being complete: there is no partial success.
pub async fn backup(b: &Backup<'_>) -> Result<BackupReport> {
    let run = BackupId::new(b.world.clock.now(), b.world.clock.random() as u32);
    let instance = b.world.unless_stopped(open(b)).await?;
    let mut writer = b.world.unless_stopped(claim(b)).await?;
    let outcome = b.world.unless_stopped(story(b, &run, &instance, &mut writer)).await;
    clear(b, &run, &instance, &writer).await;
    let released = b.world.step("release", writer.release()).await;
    let report = outcome?;
    if let Err(fault) = released {
        b.world.reporter.notice(&format!("the backup is committed, but its claim was not released: {fault}"));
    }
    Ok(report)
}

/// The backup of this occasion, if it was made.
///
/// # Errors
/// When the repository cannot be read.
pub async fn already_made(
    reader: &Reader,
    occasion: Option<&str>,
    world: &World,
) -> Result<Option<BackupReport>> {
    let Some(occasion) = occasion else { return Ok(None) };
    let catalog = reader.catalog().await?;
    let Some(entry) = catalog.iter().find(|entry| entry.facts.occasion.as_deref() == Some(occasion)) else {
        return Ok(None);
    };
    let id = &entry.facts.backup_id;
    let text = format!("backup {id} was made for the same occasion ({occasion}): there is nothing to do");
    world.reporter.remark(&text);
    Ok(Some(BackupReport { ebs: ebs(reader.storage_of(entry).await?, None), ..report(entry) }))
}

async fn story(
    b: &Backup<'_>,
    run: &BackupId,
    instance: &Instance,
    writer: &mut Writer,
) -> Result<BackupReport> {
    // Under the claim, so that no other delivery makes one meanwhile.
    if let Some(made) = already_made(writer.reader(), b.occasion, b.world).await? {
        return Ok(made);
    }
    tell_of_predecessors(b, writer.reader()).await?;
    let mut findings = doubts(b);
    findings.extend(belongs(b, writer.reader()).await?);
    findings.extend(compared(b).await);
    let begun = (b.world.clock.now(), b.world.clock.monotonic());
    let archive = b.repository.archive(b.shard);
    let before = archived(b, &archive).await?;
    let events = recorded::before(b.choice, b.schemas, b.world).await;
    let taken = b.world.step("snapshot", instance.snapshots.take(run)).await?;
    let events = recorded::after(events, b.schemas, b.world).await;
    let plugins = recorded::plugins(b.choice, b.schemas, b.world).await;
    findings.extend(recorded::finding(events.as_ref()));
    let stored = b.world.step("store", store(b, instance, &taken, writer)).await?;
    let storage = stored.storage().clone();
    let on_line = match before {
        Some(before) => on_line(b, &taken, &before, &archive).await?,
        None => None,
    };
    let facts = BackupFacts { on_line, events, plugins, ..facts(b, run, instance, &taken, begun, findings) };
    let entry = b.world.step("commit", writer.commit(facts, stored)).await?;
    let state = complete(b, instance, &taken, writer).await?;
    Ok(BackupReport { ebs: ebs(storage, state), ..report(&entry) })
}

/// Says which earlier backups cannot be recovered from: an EBS snapshot may fail after its backup was committed. They stay listed,
/// since what EC2 says of them may change, and count for nothing.
async fn tell_of_predecessors(b: &Backup<'_>, reader: &Reader) -> Result<()> {
    let Some(volumes) = b.volumes else { return Ok(()) };
    let catalog = reader.catalog().await?;
    let backups = standings(reader, &catalog, volumes).await?;
    for finding in standing_findings(b.shard, &backups) {
        b.world.reporter.notice(&finding.notice());
    }
    Ok(())
}

/// What the archive holds now. `None`: that cannot be read since it is damaged, which must not keep anybody from a backup.
async fn archived(b: &Backup<'_>, archive: &ArchiveReader) -> Result<Option<Archive>> {
    match archive.contents().await {
        Ok(contents) => Ok(Some(contents)),
        Err(fault) if fault.kind == Kind::Damaged => {
            b.world.reporter.notice(&format!("the backup does not say on which line it was taken: {fault}"));
            Ok(None)
        }
        Err(fault) => Err(fault.during("look on which line of the archive the backup is taken")),
    }
}

/// On which line of the archive the snapshot was taken. One that is on none is worth a word: it has no archive to go on with.
async fn on_line(
    b: &Backup<'_>,
    taken: &Taken,
    before: &Archive,
    archive: &ArchiveReader,
) -> Result<Option<OnLine>> {
    let Some(after) = archived(b, archive).await? else { return Ok(None) };
    let on_line = OnLine::of(before, &after, taken.lineage.server_uuid, &taken.position.gtid_executed);
    if on_line == Some(OnLine::None) {
        b.world.reporter.notice(&format!(
            "{} lacks transactions that were archived of it, or a new line of the archive began meanwhile: nothing archived can be replayed on \
             this backup (make another one when the archiver runs)",
            b.choice.endpoint
        ));
    }
    Ok(on_line)
}

fn facts(
    b: &Backup<'_>,
    run: &BackupId,
    instance: &Instance,
    taken: &Taken,
    begun: (DateTime<Utc>, Duration),
    findings: Vec<Finding>,
) -> BackupFacts {
    BackupFacts {
        backup_id: run.clone(),
        shard: b.shard.clone(),
        kind: b.kind,
        occasion: b.occasion.map(str::to_owned),
        source: Source { endpoint: b.choice.endpoint.clone(), role: b.choice.role },
        source_reason: b.choice.reason.clone(),
        server_version: b.choice.state.version.clone(),
        gtid_executed: taken.position.gtid_executed.clone(),
        on_line: None,
        freeze: taken.freeze.clone(),
        lineage: taken.lineage.clone(),
        settings: instance.settings.clone(),
        started_at: begun.0,
        taken_at: taken.taken_at,
        seconds: (b.world.clock.monotonic() - begun.1).as_secs_f64(),
        servers: b.choice.servers.clone(),
        events: None,
        plugins: Vec::new(),
        findings,
        broken_tables: taken.broken_tables.clone(),
    }
}

/// Opens the source and lets the guards refuse before anything is claimed or touched.
async fn open(b: &Backup<'_>) -> Result<Instance> {
    b.world
        .step("check", async {
            let instance = b.instances.open(b.choice).await?;
            doubts(b).iter().for_each(|finding| b.world.reporter.notice(&finding.what));
            guard(&instance.snapshots.check().await?, b)?;
            Ok(instance)
        })
        .await
}

/// Refuses a source that is of another history than the shard's backups. Under the claim, so that it is told from the newest one.
async fn belongs(b: &Backup<'_>, reader: &Reader) -> Result<Option<Finding>> {
    let (catalog, adopted) = tokio::try_join!(reader.catalog(), reader.adopted())?;
    let bound = Bound { newest: catalog.last().map(|entry| &entry.facts), adopted: adopted.as_ref() };
    let source = Candidate::from(b.choice);
    bound.admit(b.shard, &source)?;
    let gone_back = bound.gone_back(b.shard, &source);
    gone_back.iter().for_each(|finding| b.world.reporter.notice(&finding.what));
    Ok(gone_back)
}

/// What there is to say of its tables against the primary's. No backup fails for it.
async fn compared(b: &Backup<'_>) -> Option<Finding> {
    let finding = compare::tables(b.shard, b.choice, b.schemas).await?;
    if finding.severity == Severity::Ok {
        return None;
    }
    b.world.reporter.notice(&finding.what);
    Some(finding)
}

/// What speaks against the source, and not enough to refuse it.
fn doubts(b: &Backup<'_>) -> Vec<Finding> {
    let (endpoint, state) = (&b.choice.endpoint, &b.choice.state);
    let version = version_finding(b.shard, &endpoint.to_string(), &state.version);
    doubt(b.shard, endpoint, state).into_iter().chain(version).collect()
}

fn guard(findings: &[Finding], b: &Backup<'_>) -> Result<()> {
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        b.world.reporter.notice(&finding.what);
    }
    let problems: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = problems.iter().map(|finding| finding.what.as_str()).collect();
    let todo: Vec<_> = problems.iter().filter_map(|finding| finding.todo.as_deref()).collect();
    let message = format!("{} cannot be backed up safely: {}", b.choice.endpoint, what.join("; "));
    Err(Fault::refused(message).hint(todo.join("; ")))
}

async fn claim(b: &Backup<'_>) -> Result<Writer> {
    b.world.step("claim", b.repository.claim(b.shard, "backup")).await
}

/// Stores the snapshot's files, or where the volumes' snapshots are.
async fn store(b: &Backup<'_>, instance: &Instance, taken: &Taken, writer: &mut Writer) -> Result<Stored> {
    match instance.snapshots.open(&taken.snapshot).await? {
        Image::Tree(opened) => store_tree(b, instance, taken, &opened, writer).await,
        Image::Volumes(volumes) => {
            let sizes = Sizes { data_bytes: volumes.bytes, ..Sizes::default() };
            Ok(writer.store_ebs(volumes.snapshot_ids, volumes.region, sizes))
        }
    }
}

/// Stores what changed since the newest backup of the same history, or everything.
async fn store_tree(
    b: &Backup<'_>,
    instance: &Instance,
    taken: &Taken,
    opened: &Opened,
    writer: &mut Writer,
) -> Result<Stored> {
    let parent = if b.full { None } else { writer.newest_of(&taken.lineage).await? };
    let since = parent.as_ref().map(|manifest| &manifest.facts.lineage);
    let changes = match since {
        Some(since) => instance.snapshots.changes(&taken.snapshot, since).await?,
        None => None,
    };
    let tree = scan::tree(opened, changes.as_ref())?;
    let progress = |progress: Progress| b.world.reporter.progress(progress);
    match writer.store(&tree, parent.as_ref(), &progress).await {
        Err(fault) if fault.kind == Kind::Damaged && parent.is_some() => {
            b.world.reporter.notice(&format!("{fault}: making a full backup instead of an increment"));
            let tree = scan::tree(opened, None)?;
            writer.store(&tree, None, &progress).await
        }
        stored => {
            let stored = stored?;
            if stored.lost_packs() > 0 {
                b.world.reporter.notice(&format!(
                    "{} packs of earlier backups are missing or damaged: what this backup needs of them is stored again (`backstop verify {}` says which backups are affected)",
                    stored.lost_packs(),
                    b.shard
                ));
            }
            Ok(stored)
        }
    }
}

/// Waits until a snapshot that is the backup has all its blocks. One that fails takes the backup with it; one that
/// takes longer than the wait is committed and goes on by itself.
async fn complete(
    b: &Backup<'_>,
    instance: &Instance,
    taken: &Taken,
    writer: &mut Writer,
) -> Result<VolumeState> {
    if !instance.snapshots.is_backup() {
        return Ok(VolumeState::Completed);
    }
    let state = b.world.step("complete", instance.snapshots.complete(&taken.snapshot)).await?;
    if state == VolumeState::Pending {
        let text = "the backup is committed; its snapshot goes on being completed in the background";
        b.world.reporter.remark(text);
    }
    if !matches!(state, VolumeState::Error | VolumeState::Missing) {
        return Ok(state);
    }
    let run = &taken.snapshot.run;
    // Where the clocks do not agree it is withdrawn all the same: its grace is then by this host's.
    let now = b.world.clock.now();
    let now = writer.agreed_time(now).await.unwrap_or(now);
    writer.condemn(std::slice::from_ref(run), now).await?;
    let message =
        format!("complete backup {run}: its EBS snapshot ended in an error, so the backup was withdrawn");
    Err(Fault::failed(message)
        .hint("back up again; if it happens again, look at the volume in the EC2 console"))
}

/// Removes the snapshot and what was made for it, also after a fault, unless the snapshot is what a committed backup
/// consists of. What cannot be removed now is cleared by the next command.
async fn clear(b: &Backup<'_>, run: &BackupId, instance: &Instance, writer: &Writer) {
    let cleared = b.world.step("clear", async {
        // The repository is asked, not the outcome: a commit whose answer was lost is a commit.
        if instance.snapshots.is_backup() && is_committed(run, writer).await? {
            return Ok(());
        }
        for snapshot in instance.snapshots.list().await?.into_iter().filter(|each| each.run == *run) {
            instance.snapshots.release(&snapshot).await?;
        }
        Ok(())
    });
    if let Err(fault) = cleared.await {
        b.world.reporter.notice(&format!("remove what run {run} left: {fault}"));
    }
}

async fn is_committed(run: &BackupId, writer: &Writer) -> Result<bool> {
    let catalog = writer.reader().catalog().await?;
    Ok(catalog.iter().any(|entry| entry.facts.backup_id == *run))
}

/// Where a backup's data is, if that is EBS.
pub fn ebs(storage: Storage, state: impl Into<Option<VolumeState>>) -> Option<EbsSnapshots> {
    match storage {
        Storage::Ebs { snapshot_ids, region } => {
            Some(EbsSnapshots { region, snapshot_ids, state: state.into() })
        }
        Storage::Blocks { .. } => None,
    }
}

/// A committed backup as it is reported and listed, without what only its manifest knows.
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
