//! `rescue`: the pages, with and without a configuration.

use crate::{json, run, stderr, stdout};

const CONFIGURATION: &str = "[repository]\nurl = \"file:///nonexistent/backups\"\n[shards.billing]\n\
    credentials = { file = \"/nonexistent/billing.toml\" }\n\
    topology = { members = [\"127.0.0.1:1\", \"127.0.0.1:2\"], candidate = \"127.0.0.1:1\" }\n";

#[test]
fn commands_have_the_values_of_the_shard() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), CONFIGURATION).unwrap();
    let output = run(dir.path(), "rescue --situation table-dropped --into /data/copy --at before:x:1");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        text.contains("backstop recover billing --to before:x:1 --into /data/copy --standalone"),
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
fn pages_are_read_without_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), "this is no configuration").unwrap();
    let list = json(&run(dir.path(), "rescue --list --json"));
    for situation in list["situations"].as_array().unwrap() {
        let name = situation["name"].as_str().unwrap();
        let output = run(dir.path(), &format!("rescue --situation {name} --page"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains(situation["title"].as_str().unwrap()), "{name}");
    }
}

#[test]
fn a_situation_is_needed_where_there_is_no_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let ask = crate::backstop(dir.path(), "rescue").stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(ask.status.code(), Some(2), "{}", stderr(&ask));
    assert!(stderr(&ask).contains("--list"), "{}", stderr(&ask));
    assert_eq!(run(dir.path(), "rescue --situation nonsense").status.code(), Some(2));
}
