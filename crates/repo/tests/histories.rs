//! Random histories of a directory that is backed up, deleted and restored, compared with a naive
//! model: a map of paths to bytes for each backup.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;

use backstop_repo::{FileChanges, Storage, Tree, VerifyDepth};
use backstop_types::ids::BackupId;
use chrono::DateTime;
use proptest::prelude::*;

use support::faulty_store::FaultyStore;
use support::{Bench, Sample, lineage, noise};

const NAMES: [&str; 5] = ["ibdata1", "db/a.ibd", "db/b.ibd", "db2/a.ibd", "undo"];

#[derive(Debug, Clone)]
enum HistoryStep {
    /// Writes bytes at an offset, also beyond the end (which leaves a hole).
    Write {
        file: usize,
        at: u32,
        length: u32,
        seed: u64,
    },
    /// Writes zeros, which are no hole.
    Zero {
        file: usize,
        at: u32,
        length: u32,
    },
    Resize {
        file: usize,
        size: u32,
    },
    Delete {
        file: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    Backup {
        ranges_known: bool,
    },
    Prune {
        nth: usize,
        swept: bool,
    },
    Restore {
        nth: usize,
    },
}

fn step() -> impl Strategy<Value = HistoryStep> {
    let (file, at, length) = (0..NAMES.len(), 0u32..150_000, 1u32..60_000);
    prop_oneof![
        5 => (file.clone(), at.clone(), length.clone(), any::<u64>())
            .prop_map(|(file, at, length, seed)| HistoryStep::Write { file, at, length, seed }),
        1 => (file.clone(), at.clone(), length).prop_map(|(file, at, length)| HistoryStep::Zero { file, at, length }),
        2 => (file.clone(), at).prop_map(|(file, size)| HistoryStep::Resize { file, size }),
        1 => file.clone().prop_map(|file| HistoryStep::Delete { file }),
        1 => (file.clone(), file).prop_map(|(from, to)| HistoryStep::Rename { from, to }),
        4 => any::<bool>().prop_map(|ranges_known| HistoryStep::Backup { ranges_known }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(nth, swept)| HistoryStep::Prune { nth, swept }),
        2 => any::<usize>().prop_map(|nth| HistoryStep::Restore { nth }),
    ]
}

type Files = BTreeMap<String, Vec<u8>>;

/// Directory, repository, and the expected content of every backup.
struct HistoryBench {
    sample: Sample,
    bench: Bench,
    backups: Vec<(BackupId, Files)>,
    /// Newest backup, and the bytes by inode at that time.
    since: Option<BackupId>,
    before: BTreeMap<u64, Vec<u8>>,
}

impl HistoryBench {
    async fn new() -> Self {
        let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
        Self { sample: Sample::in_memory(), bench, backups: Vec::new(), since: None, before: BTreeMap::new() }
    }

    async fn take(&mut self, step: &HistoryStep) {
        let path = |file: usize| self.sample.path().join(NAMES[file]);
        match *step {
            HistoryStep::Write { file, at, length, seed } => {
                write(&path(file), at, &noise(seed, length as usize));
            }
            HistoryStep::Zero { file, at, length } => write(&path(file), at, &vec![0; length as usize]),
            HistoryStep::Resize { file, size } => open(&path(file)).set_len(u64::from(size)).unwrap(),
            HistoryStep::Delete { file } => drop(std::fs::remove_file(path(file))),
            HistoryStep::Rename { from, to } => {
                std::fs::create_dir_all(path(to).parent().unwrap()).unwrap();
                drop(std::fs::rename(path(from), path(to)));
            }
            HistoryStep::Backup { ranges_known } => self.backup(ranges_known).await,
            HistoryStep::Prune { nth, swept } => self.prune(nth, swept).await,
            HistoryStep::Restore { nth } => self.restore(nth).await,
        }
    }

    async fn backup(&mut self, ranges_known: bool) {
        let mut tree = self.sample.tree();
        if ranges_known {
            self.tell_ranges(&mut tree);
        }
        let writer = self.bench.acquire_lease().await;
        let parent = writer.newest_of(&lineage()).await.unwrap();
        writer.release().await.unwrap();
        // The ranges are relative to one backup: they serve only its children.
        let parent =
            parent.filter(|parent| !ranges_known || self.since.as_ref() == Some(&parent.facts.backup_id));
        let entry = self.bench.backup_tree(&tree, parent.as_ref()).await;
        self.since = Some(entry.facts.backup_id.clone());
        self.backups.push((entry.facts.backup_id, self.sample.snapshot()));
        self.before = inodes(&self.sample);
    }

    /// Fills in the changed ranges as a file system would: by inode, the differences since the
    /// newest backup.
    fn tell_ranges(&self, tree: &mut Tree) {
        for file in &mut tree.files {
            let now = std::fs::read(self.sample.path().join(&file.path)).unwrap();
            if let Some(before) = file.inode.and_then(|inode| self.before.get(&inode)) {
                file.changed = FileChanges::Only(differing(before, &now));
            }
        }
    }

    async fn prune(&mut self, nth: usize, swept: bool) {
        if self.backups.is_empty() {
            return;
        }
        let (id, _) = self.backups.remove(nth % self.backups.len());
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut writer = self.bench.acquire_lease().await;
        writer.condemn(&[id], now).await.unwrap();
        if swept {
            let plan = writer.gc_plan(now, Duration::ZERO).await.unwrap();
            writer.sweep(plan).await.unwrap();
        }
        writer.release().await.unwrap();
    }

    async fn restore(&self, nth: usize) {
        if self.backups.is_empty() {
            return;
        }
        let (id, files) = &self.backups[nth % self.backups.len()];
        assert!(self.bench.restored(id).await == *files, "backup {id} came out different");
    }

    async fn end(&self) {
        for nth in 0..self.backups.len() {
            self.restore(nth).await;
        }
        let report = self.bench.reader().verify(VerifyDepth::Content, &|_| {}).await.unwrap();
        assert!(report.damaged.is_empty(), "{report:?}");
        assert_eq!(report.sound().len(), self.backups.len());
        for (id, files) in &self.backups {
            let Storage::Blocks { files: stored, .. } =
                self.bench.reader().manifest(id).await.unwrap().storage
            else {
                panic!("not stored in blocks");
            };
            assert!(stored.iter().map(|file| &file.path).eq(files.keys()));
        }
    }
}

fn open(path: &std::path::Path) -> std::fs::File {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
}

fn write(path: &std::path::Path, at: u32, bytes: &[u8]) {
    open(path).write_all_at(bytes, u64::from(at)).unwrap();
}

fn inodes(sample: &Sample) -> BTreeMap<u64, Vec<u8>> {
    let files = sample.snapshot();
    let inode = |path: &String| std::fs::metadata(sample.path().join(path)).unwrap().ino();
    files.into_iter().map(|(path, bytes)| (inode(&path), bytes)).collect()
}

fn differing(before: &[u8], now: &[u8]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for at in (0..now.len()).filter(|at| before.get(*at) != now.get(*at)) {
        match ranges.last_mut() {
            Some(last) if last.end == at as u64 => last.end += 1,
            _ => ranges.push(at as u64..at as u64 + 1),
        }
    }
    ranges
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_backup_restores_its_directory(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut ctx = HistoryBench::new().await;
            for step in &steps {
                ctx.take(step).await;
            }
            ctx.end().await;
        });
    }
}
