//! Rebuilds a lost or damaged index of the archive from its segments: afterwards, the archive has
//! the same contents as before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_host::Host;
use backstop_policy::recovery_window::timeline_coverage;
use backstop_repo::{ArchivePrunePlan, IndexRepair, RepoKey, Repository, VerifyDepth};
use backstop_types::archive::{Archive, SegmentState};
use backstop_types::error::ErrorKind;
use chrono::{DateTime, TimeDelta, Utc};

use support::binlog::{SERVER_B, make_noisy_segment, make_segment, seal, set, tail, uuid};
use support::shard;

const SIZE: u64 = 200;
const HOUR: Duration = Duration::from_secs(3600);

struct Shop {
    dir: tempfile::TempDir,
    key: Option<RepoKey>,
}

impl Shop {
    fn new(key: Option<RepoKey>) -> Self {
        Self { dir: support::scratch(), key }
    }

    /// Archives this many transactions, each in a separate segment, which has replaced a tail
    /// segment if its number is even.
    async fn with(sealed: u64) -> Self {
        let shop = Self::new(None);
        shop.archives(1, sealed).await;
        shop
    }

    async fn archives(&self, from: u64, to: u64) {
        let writer = self.open().await.acquire_archive_lease(&shard()).await.unwrap();
        for number in from..=to {
            if number % 2 == 0 {
                tail(&writer, number, number, SIZE).await;
            }
            seal(&writer, number, number, SIZE).await;
        }
        writer.release().await.unwrap();
    }

    /// Opens the repository as another run would: without any cached state.
    async fn open(&self) -> Repository {
        Repository::open(&support::location(self.dir.path()), self.key.as_ref(), Host::system())
            .await
            .unwrap()
    }

    async fn contents(&self) -> Archive {
        self.open().await.archive(&shard()).contents().await.unwrap()
    }

    async fn planned(&self) -> Vec<IndexRepair> {
        self.open().await.plan_index_repair(&shard()).await.unwrap()
    }

    /// Repairs, and checks that the repair does exactly what the plan shows, once.
    async fn repaired(&self) -> Vec<IndexRepair> {
        let shown = self.planned().await;
        let (stored, entries) = (self.files("segments"), self.files("journal"));
        assert!(self.planned().await == shown && self.files("journal") == entries, "it only looked");
        let repaired = self.open().await.repair_indexes(&shard()).await.unwrap();
        assert_eq!(repaired, shown);
        assert_eq!(self.files("segments"), stored);
        let entries = self.files("journal");
        assert_eq!(self.open().await.repair_indexes(&shard()).await.unwrap(), []);
        assert_eq!(self.files("journal"), entries, "nothing was to be done");
        repaired
    }

    /// Runs an archiver that continues, until the journal is compacted again.
    async fn continues(&self, from: u64) {
        self.archives(from, from + 139).await;
        let reader = self.open().await.archive(&shard());
        assert_eq!(reader.verify(VerifyDepth::Content, &|_| {}).await.unwrap().damaged, []);
        assert_eq!(self.contents().await.held(1), Some(set(&format!("A:1-{}", from + 139))));
    }

    fn at(&self, part: &str) -> PathBuf {
        let shards = self.dir.path().join("shards");
        let only = std::fs::read_dir(shards).unwrap().next().unwrap().unwrap().path();
        only.join("archive").join(part)
    }

    /// Returns the files of a directory of the archive, sorted.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        let Ok(all) = std::fs::read_dir(self.at(part)) else { return Vec::new() };
        let mut all: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    }

    async fn prunes(
        &self,
        plan: impl Fn(&backstop_repo::ArchiveView) -> ArchivePrunePlan,
    ) -> ArchivePrunePlan {
        let writer = self.open().await.acquire_lease(&shard(), "prune").await.unwrap();
        let plan = plan(&writer.archive_view().await.unwrap());
        writer.prune_archive(plan.clone()).await.unwrap();
        writer.release().await.unwrap();
        plan
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_100_000, 0).unwrap()
}

/// Loses or damages the nth of five indexes, in several combinations.
#[tokio::test(flavor = "multi_thread")]
async fn rebuilt_indexes_restore_the_contents_of_the_archive() {
    for key in [None, Some(support::key(4))] {
        // Leases are in between, and the end is not compacted.
        let whole = Shop::new(key.clone());
        whole.archives(1, 300).await;
        whole.archives(301, 650).await;
        for (lost, damaged) in [
            (&[0][..], &[][..]),
            (&[1], &[]),
            (&[4], &[]),
            (&[], &[2]),
            (&[], &[4]),
            (&[1, 2], &[]),
            (&[1], &[2]),
            (&[2], &[1]),
            (&[0, 2], &[3]),
            (&[0, 1, 2, 3, 4], &[]),
            (&[], &[0, 1, 2, 3, 4]),
        ] {
            let shop = Shop::new(key.clone());
            copy(whole.dir.path(), shop.dir.path());
            let (before, indexes) = (shop.contents().await, shop.files("index"));
            assert_eq!((indexes.len(), before.segments.len()), (5, 650));
            for at in lost {
                std::fs::remove_file(&indexes[*at]).unwrap();
            }
            for at in damaged {
                std::fs::write(&indexes[*at], format!("torn {at}")).unwrap();
            }
            assert_ne!(shop.contents().await.damaged, [], "{lost:?} {damaged:?}");
            let repaired = shop.repaired().await;
            assert!(repaired.iter().all(|one| one.cannot.is_none() && one.left.is_empty()), "{repaired:?}");
            assert!(repaired.iter().all(|one| one.lost.is_empty()), "{repaired:?}");
            assert!(shop.contents().await == before, "{lost:?} {damaged:?}");
            let aside = repaired.iter().filter_map(|one| one.aside.as_ref());
            let aside: Vec<_> = aside.map(|key| std::fs::read(shop.dir.path().join(key)).unwrap()).collect();
            let torn: Vec<_> = damaged.iter().map(|at| format!("torn {at}").into_bytes()).collect();
            assert_eq!(aside, torn);
            if lost.len() + damaged.len() == 1 {
                assert_eq!(shop.files("index"), indexes, "under its name");
            }
            if key.is_none() && lost.len() + damaged.len() == 5 {
                shop.continues(651).await;
                // A prune does not remove the copies of damaged indexes either.
                shop.prunes(|view| view.plan(&BTreeSet::new(), now(), HOUR)).await;
                assert_eq!(shop.files("aside").len(), damaged.len());
            }
        }
    }
}

/// No other object shows that it existed: its numbers are not given a second time.
#[tokio::test(flavor = "multi_thread")]
async fn loss_of_the_only_index_is_detected_and_repaired() {
    for continued in [false, true] {
        let shop = Shop::with(128).await;
        let (before, indexes) = (shop.contents().await, shop.files("index"));
        std::fs::remove_file(&indexes[0]).unwrap();
        assert_eq!(shop.contents().await.segments.len(), 0);
        if continued {
            shop.archives(129, 140).await;
            assert_ne!(shop.contents().await.damaged, []);
            // Only the entries behind it are compacted.
            shop.archives(141, 280).await;
            assert_eq!(shop.files("index").len(), 1);
        }
        let repaired = shop.repaired().await;
        assert_eq!((repaired.len(), repaired[0].found), (1, 128));
        let after = shop.contents().await;
        assert!(after.segments[..128] == before.segments && after.damaged.is_empty());
        assert!(shop.files("index").contains(&indexes[0]));
        shop.continues(if continued { 281 } else { 129 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilt_index_restores_tails_and_timelines() {
    let shop = Shop::new(None);
    let writer = shop.open().await.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=100 {
        seal(&writer, number, number, SIZE).await;
    }
    // Tail segments of another server, which no segment replaces for long.
    let begun_at = DateTime::from_timestamp(1_795_000_500, 0).unwrap();
    tail(&writer, 101, 101, SIZE).await;
    writer.begin_timeline(uuid(SERVER_B), &set("A:1-90"), &set("A:91-101"), begun_at).await.unwrap();
    for number in 1..=30 {
        let (mut segment, bytes) = make_segment(number, number, SIZE);
        (segment.source, segment.gtids) = (uuid(SERVER_B), set(&format!("B:{number}")));
        segment.previous =
            if number == 1 { set("A:1-90") } else { set(&format!("A:1-90,B:1-{}", number - 1)) };
        if number == 1 {
            writer.put_tail(&segment, &bytes).await.unwrap();
        } else {
            writer.seal(&segment, &bytes).await.unwrap();
        }
    }
    assert_eq!(shop.files("index").len(), 1);
    let open = |contents: &Archive| {
        contents.segments.iter().filter(|segment| segment.state == SegmentState::Tail).count()
    };
    assert_eq!(open(&shop.contents().await), 2);
    // Entries behind the index name the segments that replace them.
    writer.seal_tail().await.unwrap();
    writer.release().await.unwrap();
    let before = shop.contents().await;
    assert_eq!((before.timelines.len(), before.segments.len(), open(&before)), (2, 131, 0));
    std::fs::remove_file(&shop.files("index")[0]).unwrap();
    shop.repaired().await;
    assert!(shop.contents().await == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_tail_stays_open_after_a_rebuild() {
    let shop = Shop::new(None);
    let writer = shop.open().await.acquire_archive_lease(&shard()).await.unwrap();
    for number in 1..=127 {
        seal(&writer, number, number, SIZE).await;
    }
    tail(&writer, 129, 129, SIZE).await;
    seal(&writer, 128, 128, SIZE).await;
    tail(&writer, 130, 130, SIZE).await;
    writer.release().await.unwrap();
    let (before, indexes) = (shop.contents().await, shop.files("index"));
    std::fs::remove_file(&indexes[0]).unwrap();
    shop.repaired().await;
    assert!(shop.contents().await == before);
    let writer = shop.open().await.acquire_archive_lease(&shard()).await.unwrap();
    writer.seal_tail().await.unwrap();
    writer.release().await.unwrap();
    let after = shop.contents().await;
    assert_eq!((after.damaged.len(), after.segments.len()), (0, 129));
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned_segments_stay_dropped_after_a_rebuild() {
    for swept in [false, true] {
        let shop = Shop::with(300).await;
        let whole = shop.contents().await;
        let drop: BTreeSet<u64> = whole.segments[..50].iter().map(|segment| segment.number).collect();
        shop.prunes(|view| view.plan(&drop, now(), HOUR)).await;
        let later = now() + TimeDelta::hours(2);
        if swept {
            let plan = shop.prunes(|view| view.plan(&BTreeSet::new(), later, HOUR)).await;
            assert_eq!(plan.objects.len(), 50);
        }
        let before = shop.contents().await;
        assert_eq!(before.segments.len(), 250);
        std::fs::remove_file(&shop.files("index")[0]).unwrap();
        // No prune takes unnamed segments for leftovers.
        let plan = shop.prunes(|view| view.plan(&BTreeSet::new(), now(), HOUR)).await;
        assert!(plan.objects.iter().all(|(key, _)| !key.contains("/segments/")), "{plan:?}");
        let repaired = shop.repaired().await;
        assert_eq!((repaired[0].found, repaired[0].lost.is_empty()), (if swept { 78 } else { 128 }, true));
        assert!(shop.contents().await == before);
        if swept {
            shop.continues(301).await;
        } else {
            shop.prunes(|view| view.undo_plan(now(), HOUR)).await;
            assert!(shop.contents().await == whole);
            shop.prunes(|view| view.plan(&drop, now(), HOUR)).await;
            let plan = shop.prunes(|view| view.plan(&BTreeSet::new(), later, HOUR)).await;
            assert_eq!(plan.objects.iter().filter(|(key, _)| key.contains("/segments/")).count(), 50);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_lost_with_the_index_become_gaps() {
    let shop = Shop::with(300).await;
    let before = shop.contents().await;
    std::fs::remove_file(&shop.files("index")[1]).unwrap();
    for at in [150, 151, 200] {
        std::fs::remove_file(shop.dir.path().join(&before.segments[at].object)).unwrap();
    }
    // This segment exists, and its trailer is no longer readable.
    let torn = shop.dir.path().join(&before.segments[220].object);
    std::fs::write(&torn, &std::fs::read(&torn).unwrap()[..100]).unwrap();
    let lost = set("A:151-152:201:221");
    let repaired = shop.repaired().await;
    let [one] = &repaired[..] else { panic!("{repaired:?}") };
    assert_eq!((one.found, &one.lost, one.left.len()), (124, &lost, 1));
    let after = shop.contents().await;
    assert_eq!((after.damaged.len(), after.segments.len()), (0, 296));
    let gaps = timeline_coverage(&after, after.current(), &[]).gaps;
    let gaps = gaps.iter().fold(set(""), |all, gap| all.union(&gap.missing));
    assert_eq!(gaps, lost);
    let report = shop.open().await.archive(&shard()).verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    assert_eq!(report.damaged, []);
    // A later archiver does not make a prune remove objects that can still be repaired.
    shop.archives(301, 302).await;
    shop.prunes(|view| view.plan(&BTreeSet::new(), now(), HOUR)).await;
    assert!(torn.exists());
}

/// Returns an archive that an older version wrote.
async fn golden() -> Shop {
    let shop = Shop::new(None);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1/plain-archive");
    copy(&from, shop.dir.path());
    shop
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_of_an_older_version_are_reported_and_kept() {
    let shop = golden().await;
    let index = shop.files("index").remove(0);
    std::fs::remove_file(&index).unwrap();
    let damaged = shop.contents().await.damaged;
    let repaired = shop.open().await.repair_indexes(&shard()).await.unwrap();
    let [one] = &repaired[..] else { panic!("{repaired:?}") };
    assert!(one.cannot.is_some() && one.left.len() == 128, "{one:?}");
    assert!(one.left.iter().all(|(_, why)| why.contains("older version")), "{one:?}");
    assert_eq!((shop.files("index").len(), shop.contents().await.damaged), (0, damaged));

    // With newer segments behind them, these are rebuilt.
    let shop = golden().await;
    let writer = shop.open().await.acquire_archive_lease(&shard()).await.unwrap();
    for number in 4..=150 {
        let (mut segment, bytes) = make_noisy_segment(number, number, 100);
        (segment.source, segment.file) = (uuid(SERVER_B), "other.000001".into());
        segment.previous = set(&format!("A:1-120,B:1-{}", number - 1));
        segment.gtids = set(&format!("B:{number}"));
        writer.seal(&segment, &bytes).await.unwrap();
    }
    writer.release().await.unwrap();
    let before = shop.contents().await;
    for index in shop.files("index") {
        std::fs::remove_file(index).unwrap();
    }
    let repaired = shop.repaired().await;
    assert_eq!((repaired[0].left.len(), &repaired[0].cannot), (130, &None));
    let after = shop.contents().await;
    assert!(after.damaged.is_empty() && after.timelines == before.timelines);
    assert!(after.segments == before.segments[130..], "{} segments", after.segments.len());
    let stored = shop.files("segments");
    let writer = shop.open().await.acquire_archive_lease(&shard()).await.unwrap();
    writer.release().await.unwrap();
    shop.prunes(|view| view.plan(&BTreeSet::new(), now(), HOUR)).await;
    assert_eq!(shop.files("segments"), stored, "the older ones are kept");
}

/// Each of them watches holders that may live for 15 s.
#[tokio::test(flavor = "multi_thread")]
async fn rebuild_is_refused_while_shard_or_archive_is_held() {
    let archiver = async {
        let shop = Shop::with(130).await;
        std::fs::remove_file(&shop.files("index")[0]).unwrap();
        let _archiver = shop.open().await.acquire_archive_lease(&shard()).await.unwrap();
        let error = shop.open().await.repair_indexes(&shard()).await.unwrap_err();
        assert_eq!((error.kind, shop.files("index").len()), (ErrorKind::Held, 0), "{error}");
    };
    let prune = async {
        let shop = Shop::with(130).await;
        std::fs::remove_file(&shop.files("index")[0]).unwrap();
        let _prune = shop.open().await.acquire_lease(&shard(), "prune").await.unwrap();
        let error = shop.open().await.repair_indexes(&shard()).await.unwrap_err();
        assert_eq!((error.kind, shop.files("index").len()), (ErrorKind::Held, 0), "{error}");
    };
    let two = async {
        let shop = Shop::with(130).await;
        let (before, index) = (shop.contents().await, shop.files("index").remove(0));
        std::fs::write(&index, b"torn").unwrap();
        let (one, other) = (shop.open().await, shop.open().await);
        let shard = shard();
        let (one, other) = tokio::join!(one.repair_indexes(&shard), other.repair_indexes(&shard));
        assert!([&one, &other].iter().any(|done| done.as_ref().is_ok_and(|done| done.len() == 1)));
        let held = |done: &backstop_types::error::Result<Vec<IndexRepair>>| match done {
            Ok(_) => true,
            Err(error) => error.kind == ErrorKind::Held,
        };
        assert!(held(&one) && held(&other), "{one:?} {other:?}");
        assert!(shop.contents().await == before && shop.files("aside").len() == 1);
    };
    tokio::join!(archiver, prune, two);
}
