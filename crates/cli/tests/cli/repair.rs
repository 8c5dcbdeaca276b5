//! A log that lost its end and a damaged index of the archive: `repair` shows them, and rebuilds
//! them only with `--apply`.

use std::path::Path;

use backstop_binlog::Segment;
use backstop_host::Host;
use backstop_repo::{Location, Repository};
use backstop_types::archive::SegmentHash;

use crate::{json, run, stderr, stdout};

fn configure(dir: &Path) {
    let text = format!(
        "[repository]\nurl = \"file://{}/repository\"\n[shards.orders]\n\
         credentials = {{ file = \"/nonexistent/orders.toml\" }}\ntopology = {{ members = [\"127.0.0.1:1\"] }}\n",
        dir.display()
    );
    std::fs::write(dir.join("backstop.toml"), text).unwrap();
}

#[test]
fn repair_rebuilds_a_lost_log_only_with_apply() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(21), "no repository");
    assert_eq!(run(dir.path(), "init").status.code(), Some(0));
    let whole = run(dir.path(), "repair orders");
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    assert!(stdout(&whole).contains("Nothing to repair"), "{}", stdout(&whole));

    // Manifests without a log: an object that is no manifest cannot be used, and `repair` reports
    // it.
    let stray = dir.path().join("repository/shards/orders/backups/00000000000000000007-1");
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(stray.join("manifest"), "torn").unwrap();
    let lost = run(dir.path(), "backups orders");
    assert_eq!(lost.status.code(), Some(22));
    assert!(stderr(&lost).contains("backstop repair orders"), "{}", stderr(&lost));
    let shown = run(dir.path(), "repair orders --json");
    let report = json(&shown);
    assert_eq!((shown.status.code(), &report["applied"]), (Some(1), &serde_json::json!(false)));
    assert_eq!(
        report["logs"][0]["left"][0]["object"],
        "shards/orders/backups/00000000000000000007-1/manifest"
    );
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(1), "it was only shown");
    assert_eq!(run(dir.path(), "repair orders --apply").status.code(), Some(0));
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(0));
    assert_eq!(run(dir.path(), "backups orders").status.code(), Some(0));
}

/// Writes an archive of this many segments, each with one transaction.
fn archive(dir: &Path, segments: u64) {
    let url = format!("file://{}/repository", dir.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let repository = Repository::open(&Location::new(url), None, Host::system()).await.unwrap();
        let writer = repository.acquire_archive_lease(&"orders".parse().unwrap()).await.unwrap();
        let source = "aaaaaaaa-0000-4000-8000-000000000000";
        for number in 1..=segments {
            let bytes = number.to_le_bytes();
            let previous = if number == 1 { String::new() } else { format!("{source}:1-{}", number - 1) };
            let segment = Segment {
                source: source.parse().unwrap(),
                file: "binlog.000001".into(),
                start: (number - 1) * 8,
                end: number * 8,
                previous: previous.parse().unwrap(),
                gtids: format!("{source}:{number}").parse().unwrap(),
                committed: None,
                hash: SegmentHash(*blake3::hash(&bytes).as_bytes()),
            };
            writer.seal(&segment, &bytes.to_vec()).await.unwrap();
        }
        writer.release().await.unwrap();
    });
}

#[test]
fn a_damaged_index_of_the_archive_is_rebuilt_from_its_segments() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    assert_eq!(run(dir.path(), "init").status.code(), Some(0));
    archive(dir.path(), 130);
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(0));
    let indexes = dir.path().join("repository/shards/orders/archive/index");
    let index = std::fs::read_dir(&indexes).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&index).unwrap();
    std::fs::write(&index, &whole[..100]).unwrap();
    assert_eq!(run(dir.path(), "verify orders").status.code(), Some(22));
    let shown = run(dir.path(), "repair orders --json");
    let report = json(&shown);
    assert_eq!((shown.status.code(), &report["indexes"][0]["found"]), (Some(1), &serde_json::json!(128)));
    assert_eq!(std::fs::read(&index).unwrap().len(), 100, "it was only shown");
    let applied = run(dir.path(), "repair orders --apply");
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    assert!(stdout(&applied).contains("128 segments"), "{}", stdout(&applied));
    let aside = dir.path().join("repository").join(report["indexes"][0]["aside"].as_str().unwrap());
    assert_eq!(std::fs::read(aside).unwrap(), whole[..100]);
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(0));
    assert_eq!(run(dir.path(), "verify orders").status.code(), Some(0));
}
