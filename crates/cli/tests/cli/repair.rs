//! A log that lost its end is shown, and rebuilt only when that is asked for.

use crate::{json, run, stderr, stdout};

#[test]
fn a_shard_without_a_log_has_nothing_to_repair() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[repository]\nurl = \"file://{}/repository\"\n[shards.orders]\n\
         credentials = {{ file = \"/nonexistent/orders.toml\" }}\ntopology = {{ members = [\"127.0.0.1:1\"] }}\n",
        dir.path().display()
    );
    std::fs::write(dir.path().join("backstop.toml"), text).unwrap();
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(21), "no repository");
    assert_eq!(run(dir.path(), "init").status.code(), Some(0));
    let whole = run(dir.path(), "repair orders");
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    assert!(stdout(&whole).contains("Nothing to repair"), "{}", stdout(&whole));

    // Manifests without a log: nothing can be made of one that is no manifest, and that is said.
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
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(1), "it only showed it");
    assert_eq!(run(dir.path(), "repair orders --apply").status.code(), Some(0));
    assert_eq!(run(dir.path(), "repair orders").status.code(), Some(0));
    assert_eq!(run(dir.path(), "backups orders").status.code(), Some(0));
}
