//! Refusals while storing, and restores that resume after an interruption.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use backstop_repo::{FileChanges, FileContent, RestoreOptions, Storage, Tree, TreeFile};
use backstop_types::error::ErrorKind;
use chrono::DateTime;

use support::faulty_store::{FaultyStore, StoreFault};
use support::{Bench, Sample, noise, scratch};

fn inline(path: &str, bytes: &[u8]) -> TreeFile {
    TreeFile {
        path: path.into(),
        content: FileContent::Inline(bytes.to_vec()),
        size: bytes.len() as u64,
        mode: 0o640,
        inode: None,
        changed: FileChanges::Unknown,
    }
}

async fn refused(tree: Tree) -> backstop_types::error::Error {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let mut writer = bench.acquire_lease().await;
    writer.store(&tree, None, &|_| {}).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_or_shorter_file_fails_the_backup() {
    let sample = Sample::new();
    sample.write("a.ibd", &noise(1, 50_000));
    let mut shrunk = sample.tree();
    shrunk.files[0].size += 1;
    let error = refused(shrunk).await;
    assert!(error.kind == ErrorKind::Failed && error.message.contains("a.ibd"), "{error}");
    let mut gone = sample.tree();
    gone.files[0].content = FileContent::File(sample.path().join("gone"));
    let error = refused(gone).await;
    assert!(error.kind == ErrorKind::Failed && error.message.contains("gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_would_leave_the_directory_are_refused() {
    for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b"] {
        refused(Tree { files: vec![inline(path, b"x")], directories: Vec::new() }).await;
    }
    refused(Tree { files: vec![inline("a", b"1"), inline("a", b"2")], directories: Vec::new() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inline_files_and_modes_are_restored() {
    let bench = Bench::local().await;
    let sample = Sample::new();
    sample.write("db/t.ibd", b"data");
    let mut tree = sample.tree();
    tree.files.push(inline("binlog.index", b"./binlog.000007\n"));
    tree.files[0].mode = 0o666;
    let entry = bench.backup_tree(&tree, None).await;
    let manifest = bench.reader().manifest(&entry.facts.backup_id).await.unwrap();
    let target = scratch();
    bench.reader().restore(&manifest, target.path(), &Default::default(), &|_| {}).await.unwrap();
    assert_eq!(std::fs::read(target.path().join("binlog.index")).unwrap(), b"./binlog.000007\n");
    let mode = |path: &str| std::fs::metadata(target.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("binlog.index"), mode("db/t.ibd")), (0o640, 0o660), "others get nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_restore_resumes_where_it_stopped() {
    let store = Arc::new(FaultyStore::honest());
    let bench = Bench::on(store.clone()).await;
    let sample = Sample::in_memory();
    for file in 0..6 {
        sample.write(&format!("t{file}.ibd"), &noise(file, 20 << 20));
    }
    let entry = bench.backup(&sample, None).await;
    let manifest = bench.reader().manifest(&entry.facts.backup_id).await.unwrap();
    let (target, lists) = (scratch(), scratch());
    let options = RestoreOptions { parallel: 2, done_list: Some(lists.path().join("restored")) };

    let last = store.keys().await.into_iter().rfind(|key| key.contains("/packs/")).unwrap();
    let lost = last.clone();
    store.obey(
        move |operation, key| {
            if operation == "get" && key == lost { StoreFault::Fails } else { StoreFault::Honest }
        },
    );
    let error = bench.reader().restore(&manifest, target.path(), &options, &|_| {}).await.unwrap_err();
    assert!(error.kind == ErrorKind::Store && error.message.contains(&last), "{error}");

    store.obey(|_, _| StoreFault::Honest);
    let restored = bench.reader().restore(&manifest, target.path(), &options, &|_| {}).await.unwrap();
    assert!(restored.files_kept > 0, "{restored:?}");
    assert!(restored.bytes_written <= (6 - restored.files_kept) * (20 << 20), "{restored:?}");
    assert!(support::tree_of(target.path()) == sample.snapshot());

    let again = bench.reader().restore(&manifest, target.path(), &options, &|_| {}).await.unwrap();
    assert_eq!((again.files_kept, again.bytes_written), (6, 0));
    let other = bench.backup(&sample, None).await;
    let manifest = bench.reader().manifest(&other.facts.backup_id).await.unwrap();
    let error = bench.reader().restore(&manifest, target.path(), &options, &|_| {}).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_known_to_be_unchanged_are_not_read() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let sample = Sample::new();
    sample.write("a.ibd", &noise(1, 2 << 20));
    let first = bench.backup(&sample, None).await;
    let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
    // Written without the knowledge of the file system, which reports that only the first bytes
    // changed.
    sample.patch("a.ibd", 0, b"told");
    sample.patch("a.ibd", 1 << 20, b"untold");
    let mut tree = sample.tree();
    tree.files[0].changed = FileChanges::Only(std::iter::once(0..4).collect());
    let second = bench.backup_tree(&tree, Some(&parent)).await;
    assert_eq!(second.sizes.changed_bytes, 16384);
    let restored = bench.restored(&second.facts.backup_id).await;
    assert_eq!(
        (&restored["a.ibd"][..4], &restored["a.ibd"][1 << 20..][..6]),
        (&b"told"[..], &noise(1, 2 << 20)[1 << 20..][..6])
    );
    // Nothing is known of another inode.
    tree.files[0].inode = Some(u64::MAX);
    let third = bench.backup_tree(&tree, Some(&parent)).await;
    assert_eq!(third.sizes.changed_bytes, 2 * 16384);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_stay_small_when_every_block_is_an_extent() {
    let bench = Bench::on(Arc::new(FaultyStore::honest())).await;
    let sample = Sample::in_memory();
    let size = 32 << 20;
    sample.write("a.ibd", &noise(1, size));
    let mut entry = bench.backup(&sample, None).await;
    for round in 0..2u64 {
        for block in (round..(size as u64 / 16384)).step_by(3) {
            sample.patch("a.ibd", block * 16384, &noise(1000 + round * 10_000 + block, 16384));
        }
        let parent = bench.reader().manifest(&entry.facts.backup_id).await.unwrap();
        entry = bench.backup(&sample, Some(&parent)).await;
    }
    let manifest = bench.reader().manifest(&entry.facts.backup_id).await.unwrap();
    let Storage::Blocks { extents, fingerprints, .. } = manifest.storage else {
        panic!("not stored in blocks")
    };
    assert!(extents.size <= size as u64 / 500, "{extents:?}");
    assert!(fingerprints.size <= size as u64 / 1000 + 4096, "{fingerprints:?}");
    assert!(bench.restored(&entry.facts.backup_id).await == sample.snapshot());
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_killed_write_are_swept() {
    let bench = Bench::local().await;
    let sample = Sample::new();
    sample.write("a.ibd", &noise(1, 50_000));
    let entry = bench.backup(&sample, None).await;
    let packs = bench.dir().join("shards/orders/packs");
    let (left, strange) = (packs.join("00000000000000000001-000000000009#1"), packs.join("somebody's"));
    let current = packs.join("00000000000000000004-000000000000#1");
    for file in [&left, &strange, &current] {
        std::fs::write(file, b"half a pack").unwrap();
    }
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let mut writer = bench.acquire_lease().await;
    let plan = writer.gc_plan(now, Duration::ZERO).await.unwrap();
    writer.sweep(plan).await.unwrap();
    writer.release().await.unwrap();
    assert_eq!((left.exists(), strange.exists(), current.exists()), (false, true, true));
    assert!(bench.restored(&entry.facts.backup_id).await == sample.snapshot());
}
