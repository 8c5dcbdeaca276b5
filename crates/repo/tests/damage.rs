//! Damage as a matrix: each kind of object × each kind of damage. The report names exactly the
//! damaged object and the backups that need it; every other backup still restores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_host::Host;
use backstop_repo::{CatalogEntry, Repository, VerifyDepth, VerifyResult};
use backstop_types::error::ErrorKind;
use chrono::DateTime;

use support::{Bench, Sample, noise};

#[derive(Debug, Clone, Copy)]
enum DamageKind {
    Truncated,
    Emptied,
    FlippedHead,
    FlippedMiddle,
    FlippedEnd,
    Deleted,
    Swapped,
}

const DAMAGE_KINDS: [DamageKind; 7] = [
    DamageKind::Truncated,
    DamageKind::Emptied,
    DamageKind::FlippedHead,
    DamageKind::FlippedMiddle,
    DamageKind::FlippedEnd,
    DamageKind::Deleted,
    DamageKind::Swapped,
];

impl DamageKind {
    fn inflict(self, victim: &Path, other: &Path) {
        let bytes = std::fs::read(victim).unwrap();
        let flip = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            std::fs::write(victim, bytes).unwrap();
        };
        match self {
            Self::Truncated => std::fs::write(victim, &bytes[..bytes.len() - 7]).unwrap(),
            Self::Emptied => std::fs::write(victim, b"").unwrap(),
            Self::FlippedHead => flip(20),
            Self::FlippedMiddle => flip(bytes.len() / 2),
            Self::FlippedEnd => flip(bytes.len() - 20),
            Self::Deleted => std::fs::remove_file(victim).unwrap(),
            Self::Swapped => {
                let other = std::fs::read(other).unwrap();
                std::fs::write(victim, other).unwrap();
            }
        }
    }
}

/// Repository with three backups: `first`, `second` on top of it, and `alone`, which shares
/// nothing.
struct DamageBench {
    bench: Bench,
    backups: [CatalogEntry; 3],
    contents: [BTreeMap<String, Vec<u8>>; 3],
}

impl DamageBench {
    async fn set(bench: Bench) -> Self {
        let sample = Sample::new();
        sample.write("a.ibd", &noise(1, 300_000));
        sample.write("b.ibd", &noise(2, 200_000));
        let before = sample.snapshot();
        let first = bench.backup(&sample, None).await;
        let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
        sample.patch("a.ibd", 100_000, &noise(3, 60_000));
        let after = sample.snapshot();
        let second = bench.backup(&sample, Some(&parent)).await;
        let other = Sample::new();
        other.write("c.ibd", &noise(4, 250_000));
        let alone = bench.backup(&other, None).await;
        Self { bench, backups: [first, second, alone], contents: [before, after, other.snapshot()] }
    }

    fn file(&self, key: &str) -> PathBuf {
        self.bench.dir().join(key)
    }

    fn keys_of(&self, entry: &CatalogEntry) -> (String, String) {
        let base = entry.manifest.key.strip_suffix("manifest").unwrap();
        (format!("{base}extents"), format!("{base}fingerprints"))
    }

    /// Returns the packs in the order of writing: one for each backup here.
    fn packs(&self) -> Vec<String> {
        let base = self.backups[0].manifest.key.split("/backups/").next().unwrap().to_owned();
        let mut names: Vec<_> = std::fs::read_dir(self.file(&format!("{base}/packs")))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.into_iter().map(|name| format!("{base}/packs/{name}")).collect()
    }

    async fn verify(&self, depth: VerifyDepth) -> VerifyResult {
        self.bench.reader().verify(depth, &|_| {}).await.unwrap()
    }

    /// Checks that the report names the object with exactly these backups, and nothing else as
    /// damaged, and that later readers get the same answer.
    async fn expect(&self, harm: DamageKind, key: &str, affected: &[usize]) {
        let report = self.verify(VerifyDepth::Content).await;
        // A directory without a valid header object accepts no writes.
        let known: Vec<_> = if key == "backstop" {
            Vec::new()
        } else {
            let reader = self.bench.reader();
            let found = reader.note(&report, VerifyDepth::Content, DateTime::UNIX_EPOCH).await.unwrap();
            assert_eq!(self.bench.reader().found().await.unwrap(), found);
            found.backups().into_keys().collect()
        };
        let named: Vec<_> = report.damaged.iter().map(|damage| damage.object.as_str()).collect();
        assert_eq!(named, [key], "{harm:?} {key}: {report:?}");
        let ids: Vec<_> = affected.iter().map(|nth| self.backups[*nth].facts.backup_id.clone()).collect();
        assert_eq!(report.damaged[0].backups, ids, "{harm:?} {key}");
        assert_eq!(known, ids, "{harm:?} {key}");
        assert!(!report.damaged[0].wrong.is_empty());
        for nth in 0..3 {
            if affected.contains(&nth) {
                self.fails_naming(harm, nth, key).await;
            } else {
                self.restores(harm, nth).await;
            }
        }
    }

    async fn restores(&self, harm: DamageKind, nth: usize) {
        let restored = self.bench.restored(&self.backups[nth].facts.backup_id).await;
        assert!(restored == self.contents[nth], "{harm:?}: backup {nth} came out different");
    }

    /// Checks that a restore either fails, naming the object, or did not need the damaged part; it
    /// never returns other bytes.
    async fn fails_naming(&self, harm: DamageKind, nth: usize, key: &str) {
        let reader = self.bench.reader();
        let target = support::scratch();
        let outcome = async {
            let manifest = reader.manifest(&self.backups[nth].facts.backup_id).await?;
            reader.restore(&manifest, target.path(), &Default::default(), &|_| {}).await
        };
        match outcome.await {
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Damaged, "{harm:?} {key}: {error}");
                assert!(error.message.contains(key), "{harm:?} {key}: {error}");
            }
            Ok(_) => assert!(
                support::tree_of(target.path()) == self.contents[nth],
                "{harm:?} {key}: silent damage"
            ),
        }
    }

    /// Inflicts each kind of damage in turn on one object and undoes it.
    async fn suffer(&self, key: &str, other: &str, affected: &[usize]) {
        let victim = self.file(key);
        let whole = std::fs::read(&victim).unwrap();
        for harm in DAMAGE_KINDS {
            harm.inflict(&victim, &self.file(other));
            self.expect(harm, key, affected).await;
            std::fs::write(&victim, &whole).unwrap();
        }
        let whole = self.verify(VerifyDepth::Content).await;
        assert!(whole.damaged.is_empty());
        assert!(
            self.bench
                .reader()
                .note(&whole, VerifyDepth::Content, DateTime::UNIX_EPOCH)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

async fn stages() -> [DamageBench; 2] {
    [DamageBench::set(Bench::local().await).await, DamageBench::set(Bench::local_encrypted().await).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_manifest_is_reported_with_its_backups() {
    for stage in stages().await {
        let [first, second, _] = &stage.backups;
        stage.suffer(&first.manifest.key, &second.manifest.key, &[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_extents_are_reported_with_their_backups() {
    for stage in stages().await {
        let [first, second, _] = &stage.backups;
        stage.suffer(&stage.keys_of(second).0, &stage.keys_of(first).0, &[1]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_fingerprints_are_reported_and_backups_restored() {
    for stage in stages().await {
        let [first, second, _] = &stage.backups;
        stage.suffer(&stage.keys_of(second).1, &stage.keys_of(first).1, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pack_is_reported_with_its_backups() {
    for stage in stages().await {
        let packs = stage.packs();
        assert_eq!(packs.len(), 3);
        stage.suffer(&packs[0], &packs[2], &[0, 1]).await;
        stage.suffer(&packs[1], &packs[0], &[1]).await;
        stage.suffer(&packs[2], &packs[1], &[2]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_newest_log_entry_is_skipped_by_readers_only() {
    for stage in stages().await {
        let base = stage.backups[0].manifest.key.split("/backups/").next().unwrap().to_owned();
        let mut names: Vec<_> = std::fs::read_dir(stage.file(&format!("{base}/log")))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let key = format!("{base}/log/{}", names.last().unwrap());
        let other = format!("{base}/log/{}", names[0]);
        stage.suffer(&key, &other, &[]).await;
        DamageKind::FlippedMiddle.inflict(&stage.file(&key), &stage.file(&other));
        let error = stage.bench.repository.acquire_lease(&support::shard(), "backup").await.err().unwrap();
        assert_eq!((error.kind, error.message.contains(&key)), (ErrorKind::Damaged, true), "{error}");
        std::fs::remove_file(stage.file(&key)).unwrap();
        let error = stage.bench.repository.acquire_lease(&support::shard(), "backup").await.err().unwrap();
        assert_eq!((error.kind, error.message.contains(&key)), (ErrorKind::Damaged, true), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_root_is_reported_and_backups_are_restored() {
    for stage in stages().await {
        stage.suffer("backstop", &stage.packs()[0], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_wrapped_key_is_reported_at_open() {
    let stage = DamageBench::set(Bench::local_encrypted().await).await;
    let name = std::fs::read_dir(stage.file("keys")).unwrap().next().unwrap().unwrap().file_name();
    let copies =
        ["keys", "spare-keys"].map(|folder| stage.file(&format!("{folder}/{}", name.to_str().unwrap())));
    let whole = copies.each_ref().map(|copy| std::fs::read(copy).unwrap());
    let location = support::location(stage.bench.dir());
    let open = || async { Repository::open(&location, Some(&support::key(1)), Host::system()).await.err() };
    for harm in DAMAGE_KINDS {
        harm.inflict(&copies[0], &stage.file("backstop"));
        assert!(open().await.is_none(), "{harm:?}: the other copy opens it");
        harm.inflict(&copies[1], &stage.file("backstop"));
        let error = open().await.unwrap();
        let expected =
            if matches!(harm, DamageKind::Deleted) { ErrorKind::Usage } else { ErrorKind::Damaged };
        assert_eq!(error.kind, expected, "{harm:?}: {error}");
        assert!(error.message.contains(name.to_str().unwrap()), "{harm:?}: {error}");
        copies.iter().zip(&whole).for_each(|(copy, whole)| std::fs::write(copy, whole).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_heartbeat_does_not_prevent_backups() {
    for harm in DAMAGE_KINDS {
        let stage = DamageBench::set(Bench::local().await).await;
        let beats = stage.file("shards/orders/heartbeats");
        for beat in std::fs::read_dir(beats).unwrap() {
            harm.inflict(&beat.unwrap().path(), &stage.file("backstop"));
        }
        stage.bench.acquire_lease().await.release().await.unwrap();
        assert!(stage.verify(VerifyDepth::Content).await.damaged.is_empty(), "{harm:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_log_is_not_taken_for_an_empty_repository() {
    let stage = DamageBench::set(Bench::local().await).await;
    std::fs::remove_dir_all(stage.file("shards/orders/log")).unwrap();
    let error = stage.bench.reader().catalog().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreferenced_objects_are_counted() {
    let stage = DamageBench::set(Bench::local().await).await;
    assert_eq!(stage.verify(VerifyDepth::Objects).await.unreferenced, 0);
    let mut writer = stage.bench.acquire_lease().await;
    let sample = Sample::new();
    sample.write("x", &noise(9, 50_000));
    writer.store(&sample.tree(), None, &|_| {}).await.unwrap();
    writer.release().await.unwrap();
    assert_eq!(stage.verify(VerifyDepth::Objects).await.unreferenced, 3, "a pack, extents, fingerprints");
}

/// Content of the next backup when its parent has a lost or damaged pack.
#[tokio::test(flavor = "multi_thread")]
async fn backup_after_damage_stores_lost_blocks_again() {
    for harm in DAMAGE_KINDS {
        for stage in stages().await {
            let packs = stage.packs();
            harm.inflict(&stage.file(&packs[0]), &stage.file(&packs[2]));
            // Only reading the content reveals a flipped byte; a missing object or another size
            // shows without it.
            let report = stage.verify(VerifyDepth::Content).await;
            stage.bench.reader().note(&report, VerifyDepth::Content, DateTime::UNIX_EPOCH).await.unwrap();
            assert_eq!(report.sound(), [stage.backups[2].facts.backup_id.clone()], "{harm:?}");
            let sample = Sample::new();
            for (path, bytes) in &stage.contents[1] {
                sample.write(path, bytes);
            }
            let second = stage.bench.reader().manifest(&stage.backups[1].facts.backup_id).await.unwrap();
            let mut writer = stage.bench.acquire_lease().await;
            let stored = writer.store(&sample.tree(), Some(&second), &|_| {}).await.unwrap();
            assert_eq!(stored.lost_packs(), 1, "{harm:?}");
            let next = writer.commit(support::facts(support::next_id()), stored).await.unwrap();
            writer.release().await.unwrap();
            assert!(next.sizes.changed_bytes < 500_000, "{harm:?}: what is whole is not stored again");
            let report = stage.verify(VerifyDepth::Content).await;
            assert!(report.sound().contains(&next.facts.backup_id), "{harm:?}: {report:?}");
            assert!(stage.bench.restored(&next.facts.backup_id).await == stage.contents[1], "{harm:?}");
        }
    }
}

/// The next backup skips a parent with a damaged manifest or index, and builds on the backup before
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_parent_is_skipped_by_the_next_increment() {
    for part in ["manifest", "extents", "fingerprints"] {
        let stage = DamageBench::set(Bench::local().await).await;
        let base = stage.backups[2].manifest.key.strip_suffix("manifest").unwrap();
        DamageKind::FlippedMiddle.inflict(&stage.file(&format!("{base}{part}")), Path::new(""));
        let report = stage.verify(VerifyDepth::Content).await;
        assert_eq!(report.damaged.len(), 1, "{part}: {report:?}");
        stage.bench.reader().note(&report, VerifyDepth::Content, DateTime::UNIX_EPOCH).await.unwrap();
        let writer = stage.bench.acquire_lease().await;
        let parent = writer.newest_of(&support::lineage()).await.unwrap().unwrap();
        assert_eq!(parent.facts.backup_id, stage.backups[1].facts.backup_id, "{part}");
        writer.release().await.unwrap();
    }
}

/// Readers detect a log that lost its end as well as writers do; backups that are still listed can
/// be restored.
#[tokio::test(flavor = "multi_thread")]
async fn truncated_log_is_detected_by_readers() {
    let stage = DamageBench::set(Bench::local().await).await;
    stage.bench.reader().ends_well().await.unwrap();
    let mut logs: Vec<_> = std::fs::read_dir(stage.file("shards/orders/log")).unwrap().collect();
    logs.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    for entry in logs.iter().rev().take(3) {
        std::fs::remove_file(entry.as_ref().unwrap().path()).unwrap();
        let error = stage.bench.reader().ends_well().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
    }
    let left = stage.bench.reader().catalog().await.unwrap();
    assert_eq!(left, stage.backups[..2]);
    assert!(stage.bench.restored(&left[1].facts.backup_id).await == stage.contents[1]);
}
