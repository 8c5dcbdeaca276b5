//! `rescue`: the pages, with and without a configuration.

use crate::{json, run, stderr, stdout};

const CONFIGURATION: &str = "[repository]\nurl = \"file:///nonexistent/backups\"\n[shards.billing]\n\
    credentials = { file = \"/nonexistent/billing.toml\" }\n\
    topology = { members = [\"127.0.0.1:1\", \"127.0.0.1:2\"], candidate = \"127.0.0.1:1\" }\n";

const GTID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:5";

/// Writes a configuration with this number of members on loopback; the second is the candidate.
fn configured(members: u16, rest: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let list: Vec<String> = (1..=members).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let candidate = if members > 1 { ", candidate = \"127.0.0.1:2\"" } else { "" };
    let topology = format!("topology = {{ members = [{}]{candidate} }}\n{rest}", list.join(", "));
    let text: String = CONFIGURATION.lines().take(4).map(|line| format!("{}\n", line.trim())).collect();
    std::fs::write(dir.path().join("backstop.toml"), text + &topology).unwrap();
    dir
}

/// Returns the output of `rescue` with these arguments.
fn printed(dir: &tempfile::TempDir, arguments: &str) -> String {
    let output = run(dir.path(), &format!("rescue {arguments}"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn commands_have_the_values_of_the_shard() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), CONFIGURATION).unwrap();
    let output =
        run(dir.path(), &format!("rescue --situation table-dropped --into /data/copy --at before:{GTID}"));
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        text.contains(&format!("backstop recover billing --to before:{GTID} --into /data/copy --standalone")),
        "{text}"
    );
    assert!(
        text.contains("mysql --host=127.0.0.1 --port=2 shop <"),
        "the primary is not the candidate: {text}"
    );
    assert!(!text.contains("orders"), "{text}");
    let report = json(&run(dir.path(), "rescue billing --situation table-dropped --json"));
    assert_eq!(report["shard"], "billing");
    assert!(report["page"].as_str().unwrap().contains("## If it refuses"), "{report}");
    assert_eq!(run(dir.path(), "rescue other --situation copy").status.code(), Some(2));
}

#[test]
fn commands_fit_the_number_of_members() {
    for (members, topology) in [
        (2, "members = [\"127.0.0.1:2\"] }"),
        (3, "members = [\"127.0.0.1:2\", \"127.0.0.1:3\"], candidate = \"127.0.0.1:3\" }"),
        (4, "members = [\"127.0.0.1:2\", \"127.0.0.1:3\", \"127.0.0.1:4\"], candidate = \"127.0.0.1:3\" }"),
    ] {
        let text = printed(&configured(members, ""), "--situation primary-dead");
        assert!(text.contains(topology), "{text}");
        let repointed =
            text.lines().filter(|line| line.starts_with("mysql ") && line.contains("SOURCE_HOST="));
        assert_eq!(repointed.count(), usize::from(members) - 2, "{text}");
    }
    let text = printed(&configured(1, ""), "--situation primary-dead");
    assert!(text.contains("no replica to promote"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("mysql ") || line.starts_with("sed ")), "{text}");
    let text = printed(&configured(2, ""), "--situation rotate-passwords");
    assert!(text.contains("# mysql --host=db3"), "{text}");
}

#[test]
fn semi_sync_commands_are_left_out_without_semi_sync() {
    let install = "\nmysql --host=127.0.0.1 --port=2 --execute=\"INSTALL PLUGIN";
    let text = printed(&configured(3, ""), "--situation primary-dead");
    assert!(
        text.contains("# Left out: the shard does not use semi-sync") && !text.contains(install),
        "{text}"
    );
    let with = configured(3, "archive = { from = \"primary\", semi_sync = true }\n");
    assert!(printed(&with, "--situation primary-dead").contains(install));
}

#[test]
fn warnings_are_printed_with_the_commands() {
    let text = printed(&configured(3, ""), "--situation primary-dead");
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("`{words}` is not in {text}"));
    assert!(at("do not promote `127.0.0.1`") < at("SET GLOBAL super_read_only = OFF"));
    assert!(at("# The first must show `0`") < at("WAIT_FOR_EXECUTED_GTID_SET"));
    assert!(printed(&configured(3, ""), "--situation rows-back").contains("# - Never: make production"));
}

#[test]
fn samples_without_a_value_are_named() {
    let text = printed(&configured(3, ""), "--situation everything-is-gone");
    assert!(text.contains("# REPLACE `db4` in the commands"), "{text}");
    assert!(!text.contains("REPLACE `db1`") && !text.contains("REPLACE `orders`"), "{text}");
}

#[test]
fn a_moment_is_printed_as_an_absolute_time() {
    let dir = configured(1, "");
    let text = printed(&dir, "--situation table-dropped --at -20m");
    let to = text.split("--to ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(to.starts_with("20") && to.ends_with('Z'), "{text}");
    let zoned = "--situation table-dropped --at 2026-11-23T02:21:33 --time-zone Europe/Berlin";
    assert!(printed(&dir, zoned).contains("--to 2026-11-23T01:21:33Z "));
    for moment in ["before:x:1", "tonight", "2026-11-23T02:21:33"] {
        let output = run(dir.path(), &format!("rescue --situation table-dropped --at {moment}"));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}

#[test]
fn rescue_prints_pages_without_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), "this is no configuration").unwrap();
    let list = json(&run(dir.path(), "rescue --list --json"));
    for situation in list["situations"].as_array().unwrap() {
        let name = situation["name"].as_str().unwrap();
        let output = run(dir.path(), &format!("rescue --situation {name} --page"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains(situation["title"].as_str().unwrap()), "{name}");
        let note = text.lines().find(|line| line.contains("cannot be read")).unwrap();
        assert!(!note.contains("\\n"), "{note}");
    }
}

#[test]
fn rescue_requires_a_situation_without_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let ask = crate::backstop(dir.path(), "rescue").stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(ask.status.code(), Some(2), "{}", stderr(&ask));
    assert!(stderr(&ask).contains("--list"), "{}", stderr(&ask));
    assert_eq!(run(dir.path(), "rescue --situation nonsense").status.code(), Some(2));
}
