//! A repository of each released format version stays readable: `tests/golden/` holds them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_model::ids::BackupId;
use backstop_repo::{Depth, RepoKey, Repository};
use support::{Bench, Sample, noise};

fn home(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(kind)
}

fn kinds() -> [(&'static str, Option<RepoKey>); 2] {
    [("plain", None), ("encrypted", Some(support::key(0x42)))]
}

/// What the golden repositories hold: two backups, the second an increment.
fn contents() -> [BTreeMap<String, Vec<u8>>; 2] {
    let text: Vec<u8> = (0..9000).flat_map(|line| format!("row {line}\n").into_bytes()).collect();
    let mut sparse = vec![0; 200_000];
    sparse[100_000..100_007].copy_from_slice(b"present");
    let first = BTreeMap::from([
        ("db/empty".to_owned(), Vec::new()),
        ("db/noise.ibd".to_owned(), noise(11, 40_000)),
        ("db/text.ibd".to_owned(), text),
        ("sparse.ibd".to_owned(), sparse),
    ]);
    let mut second = first.clone();
    second.remove("db/empty");
    second.get_mut("db/text.ibd").unwrap()[50_000..50_007].copy_from_slice(b"CHANGED");
    second.insert("db/new.ibd".to_owned(), b"new".to_vec());
    [first, second]
}

fn sample(files: &BTreeMap<String, Vec<u8>>) -> Sample {
    let sample = Sample::new();
    for (path, bytes) in files {
        sample.write(path, bytes);
    }
    sample
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the golden repositories anew: only for a format that was never released"]
async fn write() {
    for (kind, key) in kinds() {
        let home = home(kind);
        drop(std::fs::remove_dir_all(&home));
        let repository = Repository::open(&support::location(&home), key.as_ref()).await.unwrap();
        let bench = Bench { repository, dir: None };
        let mut parent = None;
        for files in contents() {
            let entry = bench.backup(&sample(&files), parent.as_ref()).await;
            parent = Some(bench.reader().manifest(&entry.facts.backup_id).await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read() {
    for (kind, key) in kinds() {
        let repository = Repository::open(&support::location(&home(kind)), key.as_ref()).await.unwrap();
        let bench = Bench { repository, dir: None };
        let ids: Vec<BackupId> =
            bench.reader().catalog().await.unwrap().into_iter().map(|entry| entry.facts.backup_id).collect();
        assert_eq!(ids.len(), 2, "{kind}");
        for (id, files) in ids.iter().zip(contents()) {
            assert!(bench.restored(id).await == files, "{kind} {id}");
        }
        let report = bench.reader().verify(Depth::Content, &|_| {}).await.unwrap();
        assert!(report.damaged.is_empty() && report.unreferenced == 0, "{kind}: {report:?}");
    }
}
