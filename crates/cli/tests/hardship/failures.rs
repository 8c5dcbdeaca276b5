//! Backstop's dependencies fail: the source, the connection, the disk, the store. Each failure
//! gives a clear error, nothing is lost, and after the repair the same command succeeds.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use backstop_testkit::{ShardLayout, TestShard, TestVolume, tables};
use rustix::process::Signal;

use crate::support::program::{Backstop, Finished, S3};
use crate::support::source_unharmed::{nothing_left, unharmed};

const BACKUP: &str = "backup orders";
/// Limit for the message that something cannot be reached.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(90);

async fn single() -> (TestShard, Backstop) {
    let shard = TestShard::start(ShardLayout::single()).await;
    tables::fill(shard.primary(), 1, 2_000).await;
    let backstop = Backstop::of(&shard, "clone").await;
    (shard, backstop)
}

/// Checks that nothing was lost and that no incomplete backup is visible, and that the next backup
/// succeeds after the repair.
async fn succeeds_after_repair(shard: &TestShard, backstop: &Backstop, before: &[String]) {
    assert_eq!(backstop.backups().await, before, "a failed run shows nothing and loses nothing");
    backstop.json(BACKUP).await;
    assert_eq!(backstop.backups().await.len(), before.len() + 1);
    unharmed(shard).await;
    nothing_left(shard, backstop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_fails_cleanly_when_the_source_dies_or_hangs_up() {
    let (shard, backstop) = single().await;
    for point in ["after:check", "before:clone", "before:prove-copy"] {
        let before = backstop.backups().await;
        let run = backstop.spawn(BACKUP, Some(&format!("stop@{point}")));
        run.stopped().await;
        shard.primary().kill();
        run.signal(Signal::CONT);
        let ran = run.end().await;
        // A complete copy does not need its source any more; any other run fails.
        if point == "before:prove-copy" && ran.status.success() {
            shard.primary().start().await;
            continue;
        }
        ran.failed(1, &[&shard.primary().endpoint().to_string()]);
        shard.primary().start().await;
        succeeds_after_repair(&shard, &backstop, &before).await;
    }
    let before = backstop.backups().await;
    let run = backstop.spawn(BACKUP, Some("stop@before:clone"));
    run.stopped().await;
    assert!(hang_up(&shard).await > 0, "it has sessions");
    run.signal(Signal::CONT);
    run.end().await.failed(1, &[&shard.primary().endpoint().to_string()]);
    succeeds_after_repair(&shard, &backstop, &before).await;
}

/// Ends every session of Backstop's account.
async fn hang_up(shard: &TestShard) -> usize {
    let mut root = shard.primary().root().await;
    let ids: Vec<u64> = root
        .query("SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE PROCESSLIST_USER = 'backstop'")
        .await
        .unwrap();
    for id in &ids {
        let _ = root.run(&format!("KILL {id}")).await;
    }
    ids.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_fails_cleanly_on_a_full_or_read_only_disk() {
    let Some(volume) = TestVolume::ext4(64) else { return };
    let (shard, backstop) = single().await;
    let work = format!("{BACKUP} --set shards.orders.snapshot.work_dir={}", volume.path.join("w").display());
    backstop.run(&work).await.failed(20, &["free", &volume.path.display().to_string()]);

    let repository = volume.path.join("repository");
    let elsewhere = format!("--set repository.url=file://{}", repository.display());
    let line = format!("{BACKUP} {elsewhere}");
    backstop.json(&line).await;
    let ballast = volume.path.join("ballast");
    fill(&ballast);
    shard
        .primary()
        .run(&["CREATE TABLE shop.more (id INT PRIMARY KEY AUTO_INCREMENT, pad VARBINARY(1000))", NOISE])
        .await;
    full(backstop.run(&line).await.failed(1, &["full"]));
    std::fs::remove_file(&ballast).unwrap();
    stored(&backstop, &elsewhere, 1).await;
    remount(&volume.path, "ro");
    backstop.run(&line).await.failed(10, &["ead-only"]);
    remount(&volume.path, "rw");
    stored(&backstop, &elsewhere, 1).await;
    backstop.json(&line).await;
    stored(&backstop, &elsewhere, 2).await;
    unharmed(&shard).await;
    nothing_left(&shard, &backstop).await;
}

/// Inserts two megabytes that do not compress.
const NOISE: &str = "INSERT INTO shop.more (pad) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
    SELECT CONCAT(RANDOM_BYTES(1000)) FROM n a CROSS JOIN (SELECT 1 UNION SELECT 2 UNION SELECT 3) b";

/// Fills the disk.
fn fill(ballast: &Path) {
    let mut file = std::fs::File::create(ballast).unwrap();
    let block = vec![7; 64 << 10];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let _ = file.sync_all();
}

fn full(ran: &Finished) {
    assert!(ran.err.contains("hint:"), "it says what to do: {ran}");
}

fn remount(path: &Path, how: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(path).status().unwrap();
    assert!(status.success());
}

/// Checks that this many backups exist, and that every byte of them is sound.
async fn stored(backstop: &Backstop, elsewhere: &str, count: usize) {
    let verified = backstop.json(&format!("verify orders --content {elsewhere}")).await;
    assert_eq!(verified["ok"], true, "{verified}");
    assert_eq!(verified["shards"][0]["backups"].as_array().unwrap().len(), count, "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_fail_cleanly_when_the_store_refuses() {
    let (shard, backstop) = single().await;
    let blocked = backstop.dir.join("blocked");
    std::fs::write(&blocked, "a file in the way").unwrap();
    let file = format!("file://{}", blocked.display());
    let ran = backstop.run(&format!("{BACKUP} --repository {file}")).await;
    ran.failed(10, &["blocked"]);
    assert_eq!(std::fs::read_to_string(&blocked).unwrap(), "a file in the way");

    let begin = Instant::now();
    let unreachable = "--repository s3://backups/here --set repository.endpoint=http://127.0.0.1:1";
    let keys = store_keys(&backstop, "nobody", "AKIDNOBODY", "not-the-key");
    for command in
        [BACKUP, "backups orders", "status", "verify", "recover orders --to latest --standalone --into x"]
    {
        backstop.run(&format!("{command} {unreachable} {keys}")).await.failed(10, &[]);
    }
    assert!(begin.elapsed() < MESSAGE_TIMEOUT * 5, "an unreachable endpoint is reported within a bound");
    s3_refuses(&backstop).await;
    succeeds_after_repair(&shard, &backstop, &[]).await;
}

/// Uses the S3 server of `testing/s3-server`: wrong keys, keys without rights, and a bucket that
/// does not exist.
async fn s3_refuses(backstop: &Backstop) {
    let Some(S3 { endpoint, bucket, id, secret }) = S3::of_the_tests() else { return };
    let at =
        |bucket: &str| format!("--repository s3://{bucket}/hardship --set repository.endpoint={endpoint}");
    for (name, id, secret) in [
        ("wrong", id.clone(), "wrong".to_owned()),
        ("unknown", "AKIDUNKNOWN".to_owned(), secret.clone()),
        ("denied", format!("denied-{id}"), secret.clone()),
    ] {
        let keys = store_keys(backstop, name, &id, &secret);
        for command in [BACKUP, "backups orders"] {
            backstop.run(&format!("{command} {} {keys}", at(&bucket))).await.failed(12, &[]);
        }
    }
    let keys = store_keys(backstop, "right", &id, &secret);
    backstop.run(&format!("{BACKUP} {} {keys}", at("no-such-bucket"))).await.failed(10, &["bucket"]);
    backstop.json(&format!("{BACKUP} {} {keys}", at(&bucket))).await;
}

/// Returns the flag that names a file with these keys.
fn store_keys(backstop: &Backstop, name: &str, id: &str, secret: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = backstop.dir.join(format!("{name}.toml"));
    std::fs::write(&path, format!("access_key_id = '{id}'\nsecret_access_key = '{secret}'\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("--set repository.credentials.file={}", path.display())
}
