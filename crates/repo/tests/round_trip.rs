//! Restores a stored and committed tree exactly: full and incremental, plain and encrypted.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use backstop_repo::{RestoreOptions, Storage};
use support::{Bench, Sample};

#[tokio::test(flavor = "multi_thread")]
async fn full_backup_and_increment_are_restored() {
    for bench in [Bench::local().await, Bench::local_encrypted().await] {
        let sample = Sample::new();
        sample.write("a.ibd", &support::noise(1, 3 << 20));
        sample.write("db/t.ibd", &support::noise(2, 100_000));
        sample.write("db/empty", b"");
        sample.sparse("sparse.ibd", 64 << 20, 40 << 20, b"in the middle");
        std::fs::create_dir(sample.path().join("nothing")).unwrap();
        let first = bench.backup(&sample, None).await;
        assert_eq!(first.sizes.data_bytes, sample.bytes());

        sample.patch("a.ibd", 1 << 20, b"changed");
        sample.write("db/new", b"new");
        std::fs::remove_file(sample.path().join("db/empty")).unwrap();
        let before = sample.snapshot();
        let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
        let second = bench.backup(&sample, Some(&parent)).await;
        assert_eq!(second.sizes.changed_bytes, 2 * 16384, "one patched block and one new file");
        assert_eq!(second.parent.as_ref(), Some(&first.facts.backup_id));

        let manifest = bench.reader().manifest(&second.facts.backup_id).await.unwrap();
        assert!(matches!(&manifest.storage, Storage::Blocks { files, .. } if files.len() == 4));
        let target = tempfile::tempdir().unwrap();
        let done = bench
            .reader()
            .restore(&manifest, target.path(), &RestoreOptions::default(), &|_| {})
            .await
            .unwrap();
        assert_eq!(support::tree_of(target.path()), before);
        assert!(done.bytes_written < 4 << 20, "holes were written: {done:?}");
        assert!(target.path().join("nothing").is_dir());
    }
}

/// Written as JSON and read back, each of these differs in its last bit.
#[tokio::test(flavor = "multi_thread")]
async fn freeze_of_any_length_is_committed() {
    let bench = Bench::local().await;
    let sample = Sample::new();
    sample.write("a.ibd", b"a");
    for held_ms in [0.22275499999999998, 0.9652149999999999, 1.3364449999999999, 1.7819209999999999] {
        let mut writer = bench.acquire_lease().await;
        let stored = writer.store(&sample.tree(), None, &|_| {}).await.unwrap();
        let mut facts = support::facts(support::next_id());
        facts.freeze.held_ms = held_ms;
        writer.commit(facts, stored).await.unwrap();
        writer.release().await.unwrap();
    }
    assert_eq!(bench.reader().catalog().await.unwrap().len(), 4);
}
