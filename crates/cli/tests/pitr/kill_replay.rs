//! Recoveries that are killed while they replay, and obstacles to a recovery.

use std::time::Duration;

use backstop_binlog::Segment;
use backstop_host::Host;
use backstop_repo::{Location, Repository};
use backstop_testbed::processes::kill_on;
use backstop_testkit::{ShardLayout, TestMember, TestShard, TestWorkload};
use backstop_types::archive::SegmentHash;
use rustix::process::Signal;
use serde_json::Value;

use crate::random_history::archived;
use crate::support::program::Backstop;
use crate::support::random::Random;
use crate::support::recovered_server::{RecoveredServer, touched};
use crate::support::stored_archive::{ARCHIVE, contents, held, uuid};

/// Returns the number of rounds: `BACKSTOP_TEST_ROUNDS`, else few.
fn rounds() -> usize {
    std::env::var("BACKSTOP_TEST_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_resumes_after_a_kill_of_either_side() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(1500).await;
    let written = workload.stop().await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    let held = primary.gtid_executed().await;
    let mut dice = Random::new();
    let (mut round, mut late) = (0, 0);
    while round < rounds() {
        let rebuilt = RecoveredServer::at(shard.base().join(format!("k{round}-{late}")));
        let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
        // The binlog server is in the command, which stops where the replay begins: then one of the
        // two is killed.
        let running = backstop.spawn(&line, Some("stop@before:replay"));
        running.stopped().await;
        running.signal(Signal::CONT);
        tokio::time::sleep(dice.time(Duration::from_millis(900))).await;
        if dice.roll().is_multiple_of(2) {
            running.signal(Signal::KILL);
        } else {
            kill_on(&rebuilt.datadir()).unwrap();
        }
        if running.end().await.status.success() {
            // The recovery was done already, and is not responsible for the server after that.
            late += 1;
            assert!(late < 20 * rounds(), "no kill comes in time");
            continue;
        }
        round += 1;
        let report = rebuilt.recover(&backstop, "--to latest --standalone").await;
        assert_eq!(rebuilt.held().await, held, "round {round}: {report}");
        assert_eq!(written.missing_on(&mut rebuilt.root().await).await.unwrap(), Vec::<u64>::new());
        assert_eq!(rebuilt.value("SELECT @@GLOBAL.sync_binlog").await, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_moments_are_refused_without_changes() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    primary.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    primary.run(&["FLUSH BINARY LOGS", "INSERT INTO one.t VALUES (1), (2)", "FLUSH BINARY LOGS"]).await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    primary.run(&["SET SESSION binlog_format = STATEMENT", "INSERT INTO one.t VALUES (3)"]).await;
    primary.run(&["DROP TABLE one.t"]).await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;

    let found = backstop.json("find orders --table one.t").await;
    let kinds: Vec<&str> =
        found["transactions"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ddl", "dml", "dml", "ddl", "ddl"], "the newest first: {found}");
    assert_eq!(found["advice"]["to"], found["transactions"][0]["to"], "{found}");
    let newest = backstop.json("find orders --table one.t --limit 2").await;
    assert_eq!(newest["transactions"].as_array().unwrap(), &found["transactions"].as_array().unwrap()[..2]);
    assert_eq!(newest["more"], true, "{newest}");
    let inserted = &found["transactions"][2];
    assert_eq!((&inserted["rows"], &inserted["tables"][0]["inserted"]), (&2.into(), &2.into()), "{found}");
    let dropped =
        backstop.json("find orders --kind ddl --table t --from 2020-01-01T00:00:00Z --limit 9").await;
    let dropped = dropped["transactions"][0].clone();
    assert!(dropped["statement"].as_str().unwrap().starts_with("DROP TABLE"), "{dropped}");
    let plan =
        backstop.json(&format!("plan orders --standalone --to {}", dropped["to"].as_str().unwrap())).await;
    assert!(plan["replay"]["transactions"].as_u64().unwrap() >= 4, "{plan}");
    what_fits_is_advised(&backstop, &found, &dropped).await;

    let into = shard.base().join("never");
    let recover = |how: &str| format!("recover orders {how} --into {}", into.display());
    let of = uuid(primary).await;
    for (how, code, words) in [
        ("--to 2001-01-01T00:00:00Z --standalone".to_owned(), 21, "nearest recoverable"),
        ("--to 2091-01-01T00:00:00Z --standalone".to_owned(), 21, "later than the end of the archive"),
        (format!("--to after:{of}:999999 --standalone"), 21, "is archived"),
        (format!("--to after:{of}:1 --line 7 --standalone"), 21, "no timeline 7"),
        (format!("--to {} --join", dropped["to"].as_str().unwrap()), 20, "--standalone"),
    ] {
        backstop.run(&recover(&how)).await.failed(code, &[words]);
        assert!(!touched(&into), "{how}");
    }
    let ran = backstop.run(&recover("--to 2026-01-01T00:00:00 --standalone")).await;
    assert_eq!(ran.status.code(), Some(2), "a time without a zone: {ran}");
    let ran = backstop.run("find orders --from 2026-01-01T00:00:00").await;
    ran.failed(2, &["has no zone", "`2026-01-01T00:00:00Z`", "--time-zone"]);
    let recent =
        backstop.json("find orders --from -2h --until 2091-01-01T00:00:00 --time-zone Europe/Berlin").await;
    assert!(recent["transactions"].as_array().unwrap().len() >= 5, "{recent}");
    let ran = backstop.run("plan orders --to -2h").await;
    assert!(ran.err.contains("--to is understood as 20"), "{ran}");
    backstop.run("find orders --line 7").await.failed(21, &["no timeline 7"]);

    // A sound object with bytes that the source did not send: the server that is recovered finds
    // them damaged.
    let garbled = garbled_tail(&backstop, primary).await;
    let rebuilt = RecoveredServer::at(shard.base().join("garbled"));
    let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
    backstop.run(&line).await.failed(22, &[&garbled]);

    // A byte of a segment changes; its size is right, so that only a read of its content detects that.
    // The byte is in the first frame, after the header of 64 bytes: a replay reads no facts behind
    // the binlog's bytes.
    let archive = contents(&backstop).await;
    let insert = inserted["gtid"].as_str().unwrap().parse().unwrap();
    let broken = archive.segments.iter().find(|segment| segment.gtids.contains(&insert)).unwrap();
    let object = backstop.repository.join(&broken.object);
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[64 + 16] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let rebuilt = RecoveredServer::at(shard.base().join("broken"));
    let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
    backstop.run(&line).await.failed(22, &[&broken.object]);
    archived(&backstop, &primary.gtid_executed().await).await;

    // Every later plan knows the findings of a verification.
    let ran = backstop.run("verify orders --content").await;
    assert_eq!(ran.status.code(), Some(22), "{ran}");
    assert!(ran.out.contains(&garbled) && ran.out.contains(&broken.object), "{ran}");
    backstop.run(&recover("--to latest --standalone")).await.failed(21, &["gap", &garbled]);
    std::fs::remove_file(&object).unwrap();
    backstop.run(&recover("--to latest --standalone")).await.failed(21, &["gap"]);
    assert!(!touched(&into));
}

/// Archives half of a transaction, followed by its beginning again. Returns the object.
async fn garbled_tail(backstop: &Backstop, primary: &TestMember) -> String {
    primary.run(&["CREATE DATABASE garbled"]).await;
    let archive = contents(backstop).await;
    let last = archive.segments.last().unwrap();
    let own = primary.binlog_as_sent(&last.file, &[]);
    let sent = &own[last.end as usize..];
    let half = sent.len() / 2;
    let bytes = [&sent[..half], &sent[..sent.len() - half]].concat();
    let piece = Segment {
        source: last.source,
        file: last.file.clone(),
        start: last.end,
        end: own.len() as u64,
        previous: last.held_after(),
        gtids: primary.gtid_executed().await.subtract(&held(backstop).await),
        committed: None,
        hash: SegmentHash(*blake3::hash(&bytes).as_bytes()),
    };
    let location = Location::new(format!("file://{}", backstop.repository.display()));
    let repository = Repository::open(&location, None, Host::system()).await.unwrap();
    let writer = repository.acquire_archive_lease(&"orders".parse().unwrap()).await.unwrap();
    writer.put_tail(&piece, &bytes).await.unwrap();
    writer.release().await.unwrap();
    contents(backstop).await.segments.last().unwrap().object.clone()
}

/// Checks that a search advises a recovery to just before the loss, and advises nothing that would
/// be refused; a plan without an ending lists the endings that are possible.
async fn what_fits_is_advised(backstop: &Backstop, found: &Value, dropped: &Value) {
    let to = dropped["to"].as_str().unwrap();
    let unwrapped = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let ran = backstop.run("find orders").await;
    assert!(unwrapped(&ran.out).contains(&format!("--to {to} --into DIR --standalone")), "{ran}");
    // The backup has the server's first transactions, so a recovery to just before one of them is
    // impossible.
    let ran = backstop.run("find orders --until 2001-01-01T00:00:00Z").await;
    assert!(!ran.out.contains("Next:"), "{ran}");
    let all = backstop.json("find orders --limit 1000").await;
    let first = all["transactions"].as_array().unwrap().last().unwrap();
    assert_ne!(first["gtid"], found["transactions"][4]["gtid"], "accounts were made before the backup");
    let until = first["committed_at"].as_str().unwrap();
    let refused = backstop.json(&format!("find orders --until {until}")).await;
    assert!(refused["advice"].is_null(), "{refused}");

    let plan = backstop.json(&format!("plan orders --to {to}")).await;
    let fits: Vec<(&str, bool)> = plan["endings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fit| (fit["ending"].as_str().unwrap(), fit["fits"].as_bool().unwrap()))
        .collect();
    assert_eq!(fits, [("standalone", true), ("join", false), ("as-primary", true)], "{plan}");
    assert_eq!(plan["ending"], "standalone", "{plan}");
    let ran = backstop.run(&format!("plan orders --to {to}")).await;
    assert!(unwrapped(&ran.out).contains("( --standalone | --as-primary )"), "{ran}");
    let latest = backstop.json("plan orders --to latest").await;
    assert_eq!(
        (&latest["ending"], &latest["endings"][1]["fits"]),
        (&"join".into(), &true.into()),
        "{latest}"
    );
}
