//! Consistency of two verdicts, whatever damage a repository has: a backup that `verify` calls
//! whole can be recovered, and if `status` has no problem a plan exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "../../repo/tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::archive::{Encryption, ShardArchive};
use backstop_engine::context::RunContext;
use backstop_engine::plan::{PlanInputs, PlanOptions, plan};
use backstop_engine::ports::{Clock, Failpoints, Host, Reporter, VolumeSnapshots};
use backstop_engine::report::{ShardStatus, TaggedBackup};
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_engine::status::{StatusQuery, status};
use backstop_policy::plan::{Ending, RecoveryPlan};
use backstop_policy::recovery_target::RecoveryTarget;
use backstop_repo::{Repository, VerifyDepth};
use backstop_types::backup::VolumeState;
use backstop_types::completion::CompletionOutcome;
use backstop_types::error::{Error, ErrorKind};
use backstop_types::finding::{Finding, Severity};
use backstop_types::freeze::OnPrimary;
use backstop_types::ids::{BackupId, ShardName};
use backstop_types::progress::Progress;
use backstop_types::topology::{Locking, SourceRules};
use chrono::{DateTime, Utc};
use tokio::io::AsyncReadExt;

use support::binlog::{seal, set, tail};
use support::{Bench, Sample, noise, shard};

struct Plain;

#[async_trait]
impl Clock for Plain {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_100, 0).unwrap()
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    async fn sleep(&self, _: Duration) {}
}

impl Reporter for Plain {
    fn step(&self, _: &'static str) {}
    fn progress(&self, _: Progress) {}
    fn notice(&self, _: &str) {}
}

impl Failpoints for Plain {
    fn reach(&self, _: &str) {}
}

/// No backup here is in EBS.
#[async_trait]
impl VolumeSnapshots for Plain {
    async fn state(&self, _: &[String], _: &str) -> Result<VolumeState, Error> {
        Err(Error::failed("not asked"))
    }
    async fn delete(&self, _: &[String], _: &str) -> Result<(), Error> {
        Ok(())
    }
    async fn clear_dead_runs(&self, _: &ShardName) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
    async fn mark_completion(&self, _: &[String], _: &str, _: CompletionOutcome) -> Result<(), Error> {
        Ok(())
    }
    async fn tagged(&self, _: &ShardName) -> Result<Vec<TaggedBackup>, Error> {
        Ok(Vec::new())
    }
}

fn run_context() -> RunContext {
    let (_, stop) = tokio::sync::watch::channel(false);
    let host = Host { clock: Arc::new(Plain), ..Host::system() };
    RunContext { host, reporter: Arc::new(Plain), failpoints: Arc::new(Plain), stop }
}

async fn open(dir: &Path) -> Result<Repository, Error> {
    Repository::open(&support::location(dir), None, Host::system()).await
}

async fn stands(repository: &Repository) -> Result<ShardStatus, Error> {
    let nobody = Error::failed("no member is asked here");
    let story = StatusQuery {
        shard: &shard(),
        schedule: None,
        rules: SourceChoiceRules {
            source: &SourceRules::default(),
            on_primary: OnPrimary::Refuse,
            locking: Locking::Possible,
        },
        repository,
        reader: &repository.reader(&shard()),
        volumes: &Plain,
        topology: Err(&nobody),
        archived: ShardArchive {
            settings: None,
            reader: repository.archive(&shard()),
            encryption: Encryption::Off,
        },
        ctx: &run_context(),
    };
    status(&story).await
}

async fn planned(repository: &Repository, backup: Option<BackupId>) -> Result<RecoveryPlan, Error> {
    let wanted = PlanOptions {
        shard: shard(),
        target: backup.is_none().then_some(RecoveryTarget::Latest),
        timeline: None,
        backup,
        into: None,
        port: None,
        listen: None,
        ending: Some(Ending::Standalone),
    };
    let stored = PlanInputs {
        reader: &repository.reader(&shard()),
        archive: &repository.archive(&shard()),
        volumes: &Plain,
        now: Plain.now(),
    };
    plan(&stored, &wanted).await
}

/// Reads the repository as a recovery does: restores the backup, and reads all segments to replay.
async fn recovered(repository: &Repository, plan: &RecoveryPlan) -> Result<(), Error> {
    let reader = repository.reader(&shard());
    let manifest = reader.manifest(&plan.backup_id).await?;
    let target = support::scratch();
    reader.restore(&manifest, target.path(), &Default::default(), &|_| {}).await?;
    let archive = repository.archive(&shard());
    for segment in archive.contents().await?.segments {
        let mut bytes = Vec::new();
        let read = archive.open(&segment).await?.read_to_end(&mut bytes).await;
        read.map_err(|error| Error::new(ErrorKind::Damaged, error.to_string()))?;
    }
    Ok(())
}

/// Creates two backups, one based on the other, and an archive of two segments and a tail that
/// continues behind them.
async fn stage() -> Bench {
    let bench = Bench::local().await;
    let sample = Sample::new();
    sample.write("a.ibd", &noise(1, 100_000));
    let mut parent = None;
    for patch in [0, 50_000] {
        sample.patch("a.ibd", patch, &noise(patch, 20_000));
        let mut writer = bench.acquire_lease().await;
        let stored = writer.store(&sample.tree(), parent.as_ref(), &|_| {}).await.unwrap();
        let mut facts = support::facts(support::next_id());
        facts.gtid_executed = set("A:1");
        facts.taken_at += chrono::TimeDelta::seconds(patch as i64 / 50_000);
        let entry = writer.commit(facts, stored).await.unwrap();
        writer.release().await.unwrap();
        parent = Some(bench.reader().manifest(&entry.facts.backup_id).await.unwrap());
    }
    let archiver = bench.repository.acquire_archive_lease(&shard()).await.unwrap();
    seal(&archiver, 1, 2, 5000).await;
    seal(&archiver, 3, 4, 5000).await;
    tail(&archiver, 5, 5, 5000).await;
    archiver.release().await.unwrap();
    bench
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

type Harm = (&'static str, fn(&Path, &[u8]));

const DAMAGE_KINDS: [Harm; 5] = [
    ("truncated", |file, bytes| std::fs::write(file, &bytes[..bytes.len() - 7]).unwrap()),
    ("emptied", |file, _| std::fs::write(file, b"").unwrap()),
    ("flipped", |file, bytes| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 0x10;
        std::fs::write(file, bytes).unwrap();
    }),
    ("flipped at its end", |file, bytes| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() - 20;
        bytes[at] ^= 0x10;
        std::fs::write(file, bytes).unwrap();
    }),
    ("removed", |file, _| std::fs::remove_file(file).unwrap()),
];

#[tokio::test(flavor = "multi_thread")]
async fn verdict_is_good_only_if_recovery_succeeds() {
    let bench = stage().await;
    let repository = open(bench.dir()).await.unwrap();
    let plan = planned(&repository, None).await.unwrap();
    recovered(&repository, &plan).await.unwrap();
    assert!(is_well(&stands(&repository).await.unwrap()), "whole, and well");
    let mut well = 0;
    for file in files(bench.dir()) {
        let whole = std::fs::read(&file).unwrap();
        for (harm, inflict) in DAMAGE_KINDS {
            inflict(&file, &whole);
            let what = format!("{} {harm}", file.strip_prefix(bench.dir()).unwrap().display());
            // First without a verification, then with the result of one.
            well += u32::from(agree(bench.dir(), &what).await);
            verified(bench.dir(), &what).await;
            std::fs::write(&file, &whole).unwrap();
        }
    }
    assert!(well > 0, "some harm is none: a damaged heartbeat");
    verified(bench.dir(), "nothing").await;
    assert!(
        is_well(&stands(&open(bench.dir()).await.unwrap()).await.unwrap()),
        "whole again, and well again"
    );
}

fn is_well(status: &ShardStatus) -> bool {
    // No member is queried here.
    let of_store = |finding: &&Finding| !matches!(&*finding.code, "rpo-unknown" | "no-source");
    let mut findings = status.findings.iter().filter(of_store);
    let problem = findings.any(|finding| finding.severity == Severity::Problem);
    !problem && !status.coverage.windows.is_empty() && status.coverage.gaps.is_empty()
}

/// Asserts that a plan exists if status has no problem.
async fn agree(dir: &Path, what: &str) -> bool {
    let Ok(repository) = open(dir).await else { return false };
    let Ok(status) = stands(&repository).await else { return false };
    if is_well(&status) {
        let planned = planned(&repository, None).await;
        assert!(planned.is_ok(), "{what}: status is well, but: {planned:?}");
    }
    is_well(&status)
}

/// Verifies with all bytes read: a clean result is correct, and damage is known to all commands
/// afterwards.
async fn verified(dir: &Path, what: &str) {
    let Ok(repository) = open(dir).await else { return };
    let (reader, archive) = (repository.reader(&shard()), repository.archive(&shard()));
    let found = reader.verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    reader.note(&found, VerifyDepth::Content, DateTime::UNIX_EPOCH).await.unwrap();
    let pieces = archive.verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    archive.note(&pieces, VerifyDepth::Content, DateTime::UNIX_EPOCH).await.unwrap();
    let ok = found.damaged.is_empty() && pieces.damaged.is_empty();
    if ok {
        let plan = planned(&repository, None).await;
        let plan = plan.unwrap_or_else(|error| panic!("{what}: verify is well, plan is not: {error}"));
        let done = recovered(&repository, &plan).await;
        assert!(done.is_ok(), "{what}: verify is well, a recovery is not: {done:?}");
    } else if let Ok(status) = stands(&repository).await {
        assert!(!is_well(&status), "{what}: verify found damage, status is well");
    }
    // A plan uses only a backup that is whole.
    let sound = found.sound();
    for id in &found.backups {
        match planned(&repository, Some(id.clone())).await {
            Ok(plan) => {
                assert!(sound.contains(id), "{what}: {id} is damaged, and planned: {}", plan.why);
                let manifest = reader.manifest(id).await.unwrap();
                let target = support::scratch();
                let done = reader.restore(&manifest, target.path(), &Default::default(), &|_| {}).await;
                assert!(done.is_ok(), "{what}: {id}: {done:?}");
            }
            Err(error) => assert!(!sound.contains(id), "{what}: {id} is whole, and refused: {error}"),
        }
    }
    if let Ok(plan) = planned(&repository, None).await {
        assert!(sound.contains(&plan.backup_id), "{what}: latest goes by {}", plan.backup_id);
    }
    agree(dir, what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_is_refused_if_log_lost_its_end() {
    let bench = stage().await;
    let logs = files(&bench.dir().join("shards/orders/log"));
    let first = bench.reader().catalog().await.unwrap()[0].facts.backup_id.clone();
    // The release, the commit and the lease of the second backup, etc.
    for log in logs.iter().rev().take(3) {
        std::fs::remove_file(log).unwrap();
    }
    let repository = open(bench.dir()).await.unwrap();
    let error = planned(&repository, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
    assert!(error.hint.unwrap().contains("--backup ID"));
    assert_eq!(planned(&repository, Some(first.clone())).await.unwrap().backup_id, first);
    let status = stands(&repository).await.unwrap();
    let lost = status.findings.iter().find(|finding| finding.code == "log-lost-its-end").unwrap();
    assert_eq!(lost.severity, Severity::Problem);
}
