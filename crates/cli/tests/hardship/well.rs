//! What is called well, with real servers: only what was looked at.

use backstop_testkit::{Layout, Shard};

use crate::program::{Backstop, Ran};

const ARCHIVED: &str = "--set shards.orders.archive.from=primary";

fn codes(ran: &Ran, severity: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let findings = report["shards"][0]["findings"].as_array().unwrap().clone();
    let those = findings.iter().filter(|finding| finding["severity"] == severity);
    those.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_well_only_while_its_members_live() {
    let shard = Shard::start(Layout { members: 2, ..Layout::default() }).await;
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

    // Names and sizes are no contents, and neither is a recovery.
    let verified = backstop.run("verify orders").await;
    assert!(verified.out.contains("were checked; contents were not read"), "{verified}");
    assert!(!verified.out.contains("restored") && !verified.out.contains("Nothing is damaged"), "{verified}");
    assert_eq!(backstop.json("verify orders").await["contents_read"], false);
    let read = backstop.json("verify orders --content").await;
    assert_eq!((&read["contents_read"], &read["shards"][0]["contents_read"]), (&true.into(), &true.into()));

    // What `latest` is, is said: how old it is, and what the archiver last told.
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
    assert!(told.out.contains("SILENT") && !told.out.contains("All is well"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_without_shards_is_not_well() {
    let shard = Shard::start(Layout::single()).await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    let (head, _) = text.split_once("[shards.orders]").unwrap();
    std::fs::write(&backstop.config, head).unwrap();
    let status = backstop.run("--json status").await;
    assert_eq!(status.status.code(), Some(1), "{status}");
    assert!(status.out.contains("no-shard"), "{status}");
}
