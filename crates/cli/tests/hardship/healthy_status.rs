//! Results of `status` and `verify` on healthy servers: they cover only what was checked.

use backstop_testkit::{ShardLayout, TestShard};

use crate::support::program::{Backstop, Finished};

const ARCHIVED: &str = "--set shards.orders.archive.from=primary";

fn codes(ran: &Finished, severity: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let findings = report["shards"][0]["findings"].as_array().unwrap().clone();
    let those = findings.iter().filter(|finding| finding["severity"] == severity);
    those.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_well_only_while_the_members_live() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    let mut backstop = Backstop::of(&shard, "clone").await;
    backstop.environment.push(("BACKSTOP_SHARDS_ORDERS_SCHEDULE", "rate(1 day)".to_owned()));
    backstop.json("init").await;
    backstop.run("verify").await.failed(21, &["nothing is", "backstop backup"]);
    backstop.run("verify orders").await.failed(21, &["nothing is", "backstop backup orders"]);
    backstop.json("backup orders").await;

    let status = backstop.run("status orders").await;
    assert_eq!(status.status.code(), Some(0), "{status}");
    assert!(status.out.contains("All is well.") && status.out.contains("Not read: the contents"), "{status}");
    let report = backstop.json("status orders").await;
    let members = report["shards"][0]["members"].as_array().unwrap();
    let roles: Vec<_> = members.iter().map(|member| member["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["primary", "candidate"], "{report}");
    assert_eq!(members[1]["port"], shard.endpoints()[1].port, "{report}");
    assert!(members[1]["lag_seconds"].is_number() && members[1]["wrong"].is_null(), "{report}");

    // A check of names and sizes does not cover contents, nor a recovery.
    let verified = backstop.run("verify orders").await;
    assert!(verified.out.contains("were checked; contents were not read"), "{verified}");
    assert!(!verified.out.contains("restored") && !verified.out.contains("Nothing is damaged"), "{verified}");
    assert_eq!(backstop.json("verify orders").await["contents_read"], false);
    let read = backstop.json("verify orders --content").await;
    assert_eq!((&read["contents_read"], &read["shards"][0]["contents_read"]), (&true.into(), &true.into()));

    // Commands report what `latest` means: its age, and the archiver's last report.
    backstop.json(&format!("archive orders --until-caught-up {ARCHIVED}")).await;
    let plan = backstop.json("plan orders --to latest").await;
    assert!(plan["latest"]["last_commit"].is_string(), "{plan}");
    assert!(
        plan["latest"]["archiver_silent_seconds"].is_i64() && plan["findings"][0]["code"].is_string(),
        "{plan}"
    );
    let into = backstop.dir.join("copy");
    let ran =
        backstop.run(&format!("recover orders --to latest --standalone --into {}", into.display())).await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert!(ran.err.contains("latest = the last commit archived, at "), "{ran}");

    shard.members.iter().for_each(|member| member.kill());
    let status = backstop.run("--json status orders").await;
    assert_eq!(status.status.code(), Some(1), "{status}");
    assert_eq!(
        codes(&status, "problem"),
        ["no-source", "member-down", "member-down", "rpo-unknown"],
        "{status}"
    );
    let told = backstop.run("status orders").await;
    assert!(told.out.contains("NO ANSWER") && !told.out.contains("All is well"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_not_well_without_shards() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    let (head, _) = text.split_once("[shards.orders]").unwrap();
    std::fs::write(&backstop.config, head).unwrap();
    let status = backstop.run("--json status").await;
    assert_eq!(status.status.code(), Some(1), "{status}");
    assert!(status.out.contains("no-shard"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_reports_why_the_last_backups_failed() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let mut backstop = Backstop::of(&shard, "clone").await;
    backstop.encrypt_repository();
    backstop.json("init").await;
    backstop.json("backup orders").await;

    let good = std::fs::read_to_string(&backstop.credentials).unwrap();
    backstop.write_credentials("user = 'backstop'\npassword = 'of yesterday'\n");
    backstop.run("backup orders").await.failed(12, &["backstop"]);
    backstop.run("backup orders").await.failed(12, &["backstop"]);
    let failing = backstop.run("--json status orders").await;
    let report: serde_json::Value = serde_json::from_str(&failing.out).unwrap();
    let runs = report["shards"][0]["runs"].as_array().unwrap();
    let outcomes: Vec<_> = runs.iter().map(|run| run["failure"]["exit_code"].as_u64()).collect();
    assert_eq!(outcomes, [Some(12), Some(12), None], "{report}");
    assert!(runs.iter().all(|run| run["operation"] == "backup" && run["ended"].is_string()), "{report}");
    let findings = report["shards"][0]["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["code"] == "runs-fail").expect("the finding");
    let text = found["what"].as_str().unwrap();
    assert!(text.contains("last 2 runs of `backstop backup orders` failed"), "{text}");
    let page = backstop.run("status orders").await;
    assert!(page.out.contains("Last runs") && page.out.contains("exit code 12"), "{page}");

    // A killed run leaves the record of its beginning. Later records say that their runs succeeded.
    backstop.write_credentials(&good);
    backstop.killed("backup orders", "after:claim").await;
    backstop.json("verify orders --content").await;
    let made = backstop.json("backup orders").await;
    backstop.json("prune orders --apply").await;
    let report = backstop.run("--json status orders").await;
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    let runs = report["shards"][0]["runs"].as_array().unwrap();
    let of = |operation: &str| runs.iter().filter(|run| run["operation"] == operation).collect::<Vec<_>>();
    let backups = of("backup");
    let id = made["backup_id"].as_str().unwrap();
    assert_eq!((backups.len(), &backups[0]["result"]), (5, &format!("backup {id}").into()), "{report}");
    assert!(backups[1]["ended"].is_null() && backups[1]["failure"].is_null(), "{report}");
    assert!(of("verify")[0]["result"].as_str().unwrap().contains("0 damaged"), "{report}");
    assert_eq!(of("prune").len(), 1, "{report}");
    let findings = report["shards"][0]["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["code"] != "runs-fail"), "{report}");
}

/// `init --from` asks one replica: it finds the primary, the primary's other replica, and the
/// candidate.
#[tokio::test(flavor = "multi_thread")]
async fn init_from_writes_a_configuration_of_a_running_shard() {
    let grants = vec!["base", "clone", "replication"];
    let shard = TestShard::start(ShardLayout { members: 3, grants, ..ShardLayout::default() }).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let file = backstop.dir.join("made.toml");
    let at = format!("--config {}", file.display());
    let replica = shard.endpoints()[1].clone();
    let line = format!(
        "init --from {replica} --shard orders --credentials {} --repository file://{} {at}",
        backstop.credentials.display(),
        backstop.repository.display(),
    );
    let run = |line: String| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        std::process::Command::new(crate::support::program::program()).args(words).output().unwrap()
    };
    let ended = |output: &std::process::Output| {
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let made = run(format!("{line} --json"));
    assert_eq!(made.status.code(), Some(0), "{}", ended(&made).1);
    let report: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let members: Vec<_> = report["members"].as_array().unwrap().iter().map(|m| m["port"].as_u64()).collect();
    assert_eq!(members[0], Some(shard.endpoints()[0].port.into()), "{report}");
    assert_eq!(members.len(), 3, "{report}");
    assert_ne!(report["candidate"]["port"], shard.endpoints()[0].port, "{report}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!backstop.repository.exists(), "it makes no repository");

    // The configuration can be used as it is, and is never overwritten.
    let again = run(line);
    assert_eq!(ended(&again).0, Some(20), "{}", ended(&again).1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(run(format!("init {at}")).status.code(), Some(0));
    let server = format!("--mysql-server {}", shard.program.display());
    let backup = run(format!("backup orders {at} {server}"));
    assert_eq!(ended(&backup).0, Some(0), "{}", ended(&backup).1);

    let other = backstop.dir.join("other.toml");
    let refused = run(format!(
        "init --from 127.0.0.1:1 --shard orders --credentials {} --config {}",
        backstop.credentials.display(),
        other.display()
    ));
    assert_eq!(ended(&refused).0, Some(1), "{}", ended(&refused).1);
    assert!(!other.exists());
}
