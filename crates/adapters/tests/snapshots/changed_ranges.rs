//! Compares the changed ranges that the file system reports with the blocks that changed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use backstop_adapters::snapshots::btrfs::BtrfsProvider;
use backstop_engine::ports::{ChangedFiles, SnapshotProvider, TakenSnapshot};
use backstop_testkit::{ShardLayout, TestVolume, snapshot_conformance, tables};

/// Size of InnoDB's page, and of the unit of storage, in bytes.
const BLOCK: usize = 16 * 1024;

/// Path and bytes of every file, by inode.
type Files = BTreeMap<u64, (String, Vec<u8>)>;

fn files(root: &Path) -> Files {
    let mut files = Files::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            if found.is_dir() {
                todo.push(entry.path());
            } else {
                let path = entry.path().to_string_lossy().into_owned();
                files.insert(found.ino(), (path, std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    files
}

/// Returns the blocks of earlier files whose bytes differ now, without those that became holes or
/// zeros.
fn differing(before: &Files, now: &Files) -> Vec<(u64, usize)> {
    let mut blocks = Vec::new();
    for (inode, (_, bytes)) in now {
        let Some((_, old)) = before.get(inode) else { continue };
        for (number, block) in bytes.chunks(BLOCK).enumerate() {
            let start = number * BLOCK;
            let same = old.get(start..start + block.len()) == Some(block);
            if !same && block.iter().any(|&byte| byte != 0) {
                blocks.push((*inode, start));
            }
        }
    }
    blocks
}

fn covers(changed: &ChangedFiles, inode: u64, start: usize, length: usize) -> bool {
    let (start, end) = (start as u64, (start + length) as u64);
    changed
        .get(&inode)
        .is_some_and(|ranges| ranges.iter().any(|range| range.start < end && range.end > start))
}

async fn take(provider: &BtrfsProvider) -> (TakenSnapshot, Files) {
    let taken = provider.take(&snapshot_conformance::new_run_id()).await.unwrap();
    let files = files(&provider.open(&taken.snapshot).await.unwrap().tree().unwrap().root);
    (taken, files)
}

#[tokio::test]
async fn changed_ranges_cover_every_difference_and_little_more() {
    let Some(volume) = TestVolume::btrfs(3000) else { return };
    let (shard, site) = crate::btrfs::on(&volume, ShardLayout::single()).await;
    let primary = shard.primary();
    tables::fill(primary, 3, 20_000).await;
    let provider = BtrfsProvider::new(site);
    let (parent, before) = take(&provider).await;
    provider.release(&parent.snapshot).await.unwrap();

    // A snapshot in between, which was never committed.
    primary.run(&["UPDATE shop.t2 SET k = k + 1 WHERE id % 1000 = 0"]).await;
    let (between, _) = take(&provider).await;
    provider.release(&between.snapshot).await.unwrap();

    primary
        .run(&[
            "UPDATE shop.t1 SET pad = REPEAT('z', 200) WHERE id % 997 = 0",
            // The statement writes the table's pages; otherwise the changes would be in the redo
            // log only.
            "FLUSH TABLES shop.t1 FOR EXPORT",
            "UNLOCK TABLES",
            "CREATE TABLE shop.new AS SELECT * FROM shop.t1 LIMIT 100",
            "ALTER TABLE shop.t3 RENAME TO shop.renamed",
            "TRUNCATE TABLE shop.renamed",
        ])
        .await;
    let (taken, now) = take(&provider).await;
    let changed =
        provider.changes(&taken.snapshot, &parent.lineage).await.unwrap().expect("a trusted answer");
    let differing = differing(&before, &now);
    assert!(differing.len() > 10, "something changed");
    for &(inode, start) in &differing {
        assert!(covers(&changed, inode, start, BLOCK), "{} at {start} changed unseen", now[&inode].0);
    }
    for inode in now.keys().filter(|inode| before.contains_key(inode)) {
        assert!(changed.contains_key(inode), "an old file is known, changed or not");
    }
    let listed: u64 = changed.values().flatten().map(|range| range.end - range.start).sum();
    let all: u64 = now.values().map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(listed < all / 2, "{listed} of {all} bytes are to be read");

    // A lineage that does not match in every point is not trusted.
    let trusted = |lineage| provider.changes(&taken.snapshot, lineage);
    let other_volume =
        backstop_types::backup::Lineage { volume: "btrfs:another".into(), ..parent.lineage.clone() };
    assert_eq!(trusted(&other_volume).await.unwrap(), None);
    let later = backstop_types::backup::Lineage { generation: Some(u64::MAX), ..parent.lineage.clone() };
    assert_eq!(trusted(&later).await.unwrap(), None);
    let unmarked = backstop_types::backup::Lineage {
        mark: Some("20200101T000000Z-00000000".into()),
        ..parent.lineage.clone()
    };
    assert_eq!(trusted(&unmarked).await.unwrap(), None, "the volume was set back to before the parent");
    provider.release(&taken.snapshot).await.unwrap();

    // A file that is written in place, without a new generation.
    let exempt = primary.datadir().join("exempt");
    std::fs::File::create(&exempt).unwrap();
    assert!(std::process::Command::new("chattr").arg("+C").arg(&exempt).status().unwrap().success());
    let (taken, _) = take(&provider).await;
    assert_eq!(provider.changes(&taken.snapshot, &parent.lineage).await.unwrap(), None);
    provider.release(&taken.snapshot).await.unwrap();
}
