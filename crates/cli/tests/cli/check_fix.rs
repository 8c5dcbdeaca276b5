//! `check --fix`: shows the statements, asks for confirmation, and runs them.

use std::path::Path;

use backstop_testkit::{ShardLayout, TestShard};

use crate::{json, run, stderr, stdout};

fn configure(dir: &Path, shard: &TestShard, server: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let secret = dir.join("orders.toml");
    std::fs::write(&secret, format!("user = \"backstop\"\npassword = \"{}\"\n", shard.password())).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[repository]\nurl = \"file://{dir}/repository\"\ncreate = \"if-empty\"\n[mysql]\nserver = \"{server}\"\n[shards.orders]\n\
         credentials = {{ file = \"{dir}/orders.toml\" }}\ntopology = {{ members = [\"{primary}\", \"{candidate}\"], candidate = \"{candidate}\" }}\n\
         snapshot = {{ provider = \"clone\", work_dir = \"{dir}/work\" }}\n",
        dir = dir.display(),
        server = server.display(),
        primary = shard.primary().endpoint(),
        candidate = shard.candidate().endpoint(),
    );
    std::fs::write(dir.join("backstop.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_fix_corrects_findings_after_confirmation() {
    let mut layout = ShardLayout { members: 2, ..ShardLayout::default() };
    layout.grants.push("fix");
    let shard = TestShard::start(layout).await;
    on_candidate(&shard, "UNINSTALL PLUGIN clone").await;
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &shard, &backstop_testkit::server_program::server_program().await.mysqld);

    let found = run(dir.path(), "check orders --json");
    assert_eq!(found.status.code(), Some(1), "{}", stderr(&found));
    let findings = json(&found)["shards"][0]["findings"].clone();
    let missing =
        findings.as_array().unwrap().iter().find(|finding| finding["code"] == "clone-plugin-missing");
    assert!(
        missing.is_some_and(|finding| finding["fix"].to_string().contains("INSTALL PLUGIN clone")),
        "{findings}"
    );
    let told = run(dir.path(), "check orders");
    assert!(stdout(&told).contains("backstop check orders --fix"), "{}", stdout(&told));

    let unasked = run(dir.path(), "check orders --fix");
    assert_eq!(unasked.status.code(), Some(2), "there is no terminal to ask on");
    assert!(stderr(&unasked).contains("--yes"), "{}", stderr(&unasked));
    assert_eq!(state(&shard).await, ("0".into(), "1".into()), "nothing was done without an answer");

    on_candidate(&shard, "REVOKE INSERT ON mysql.plugin FROM 'backstop'@'%'").await;
    let failed = run(dir.path(), "check orders --fix --yes");
    assert_eq!(failed.status.code(), Some(12), "{}", stderr(&failed));
    assert_eq!(state(&shard).await, ("0".into(), "1".into()), "a failed fix leaves no replica writable");

    on_candidate(&shard, "GRANT INSERT ON mysql.plugin TO 'backstop'@'%'").await;
    let mended = run(dir.path(), "check orders --fix --yes --json");
    assert_eq!(mended.status.code(), Some(0), "{}{}", stdout(&mended), stderr(&mended));
    assert_eq!(json(&mended)["ok"], true);
    assert_eq!(state(&shard).await, ("1".into(), "1".into()));
}

/// Reads the state of the clone plugin, and the candidate's `read_only`.
async fn state(shard: &TestShard) -> (String, String) {
    let plugins = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'";
    let read_only = "SELECT CAST(@@GLOBAL.super_read_only AS CHAR)";
    (shard.candidate().value(plugins).await, shard.candidate().value(read_only).await)
}

/// Runs a statement on the candidate alone.
async fn on_candidate(shard: &TestShard, sql: &str) {
    let writable = "SET GLOBAL super_read_only = OFF";
    shard
        .candidate()
        .run(&["SET SESSION sql_log_bin = 0", writable, sql, "SET GLOBAL super_read_only = ON"])
        .await;
}
