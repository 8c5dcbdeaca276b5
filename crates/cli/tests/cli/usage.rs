//! Wrong arguments and wrong configuration: exit code 2, and all faults in one message.

use crate::{backstop, json, run, stderr, stdout};

const CONFIGURATION: &str = r#"
[repository]
url = "file:///nonexistent/backups"

[shards.orders]
credentials = { file = "/nonexistent/orders.toml" }
topology = { members = ["127.0.0.1:1"] }
"#;

fn with(configuration: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), configuration).unwrap();
    dir
}

#[test]
fn arguments_are_read_before_the_configuration() {
    let dir = with("this is not a configuration");
    for wrong in [
        "",
        "nonsense",
        "backup",
        "backup ORDERS",
        "backup orders --kind sometimes",
        "backups orders --set nonsense",
        "recover orders --into x --join",
        "recover orders --to latest --into x",
        "recover orders --to latest --into x --join --standalone",
        "recover orders --to now --into x --join",
        "recover orders --to latest --into x --join --copy-login",
        "recover orders --to latest --into x --as-primary --copy-login",
        "recover orders --to latest --into x --join --events print",
        "recover orders --to latest --into x --standalone --events enable",
        "recover orders --to latest --into x --standalone --accept-broken t1",
        "recover orders --to latest --into x --standalone --accept-broken .t1",
        "plan orders --to 2026-11-23",
        "check --fix",
        "schedule orders",
        "completions cobol",
        "status -v -q",
    ] {
        let output = run(dir.path(), wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{wrong}");
        assert!(!stderr(&output).contains("line 1"), "{wrong}");
    }
}

#[test]
fn usage_errors_are_json_with_the_json_option() {
    let dir = with(CONFIGURATION);
    let output = run(dir.path(), "--json recover orders --into x --join");
    let error = json(&output);
    assert_eq!(
        (output.status.code(), error["error"].as_str(), error["exit_code"].as_u64()),
        (Some(2), Some("usage"), Some(2))
    );
    assert!(error["message"].as_str().unwrap().contains("--to"), "{error}");
    assert!(error["hint"].is_string());

    let output = run(dir.path(), "status payments --json");
    let error = json(&output);
    assert_eq!(
        (output.status.code(), &error["version"], error["error"].as_str()),
        (Some(2), &1.into(), Some("usage"))
    );
    assert!(error["message"].as_str().unwrap().contains("payments"));
    assert!(error["hint"].as_str().unwrap().contains("orders"), "{error}");
}

#[test]
fn all_configuration_errors_are_in_one_message() {
    let dir = with(&format!(
        "{CONFIGURATION}freeze = {{ hold = \"soon\" }}\nretentoin = {{ daily = 3 }}\nschedule = \"daily\"\n"
    ));
    let output = backstop(dir.path(), "status --set shards.orders.snapshot.provider=lvm")
        .env("BACKSTOP_SHARDS_ORDERS_SOURCE_MAX_LAG", "long")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    for part in [
        "error:",
        "backstop.toml",
        "line 8",
        "freeze.hold",
        "line 9",
        "retentoin",
        "line 10",
        "schedule",
        "--set shards.orders.snapshot.provider",
        "BACKSTOP_SHARDS_ORDERS_SOURCE_MAX_LAG",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

#[test]
fn error_about_a_missing_configuration_names_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "status");
    // A machine may have /etc/backstop/backstop.toml.
    if !std::path::Path::new("/etc/backstop/backstop.toml").exists() {
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("hint:") && stderr(&output).contains("--config"),
            "{}",
            stderr(&output)
        );
    }
    let output = run(dir.path(), "status --config missing.toml");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("missing.toml"));
}

#[test]
fn error_about_an_invalid_configuration_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.toml"), "").unwrap();
    std::fs::write(dir.path().join("binary.toml"), b"\x80\xff\0").unwrap();
    for (file, word) in [("empty.toml", "[repository]"), ("binary.toml", "UTF-8"), (".", "directory")] {
        let output = run(dir.path(), &format!("status --config {file}"));
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains(&format!("configuration {file}")) || told.contains(&format!("read {file}")),
            "{told}"
        );
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn error_about_an_invalid_repository_url_names_it() {
    let dir = with(CONFIGURATION);
    for address in ["ftp://backups/x", "file://relative", "relative", "s3://", "http://backups/x"] {
        let output = run(dir.path(), &format!("status --repository {address}"));
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("`{address}`")) && told.contains("write "), "{told}");
    }
}

#[test]
fn empty_repository_can_be_listed_but_has_no_backup() {
    let dir = with(CONFIGURATION);
    let there = format!("file://{}/backups", dir.path().display());
    let dir = with(&CONFIGURATION.replace("file:///nonexistent/backups", &there));
    assert_eq!(run(dir.path(), "init").status.code(), Some(0));
    let output = run(dir.path(), "backups orders --json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(json(&output)["backups"], serde_json::json!([]));
    for command in [
        "backups orders --latest",
        "plan orders --to latest",
        "recover orders --to latest --into x --standalone",
    ] {
        let output = run(dir.path(), command);
        assert_eq!(output.status.code(), Some(21), "{command}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("hint: make one with `backstop backup orders`"),
            "{}",
            stderr(&output)
        );
    }
    for (command, who) in [("verify", "SHARD"), ("verify orders", "orders")] {
        let output = run(dir.path(), command);
        assert_eq!(output.status.code(), Some(21), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("`backstop backup {who}`")), "{}", stderr(&output));
    }
    let output = run(dir.path(), "status --json");
    assert_eq!(output.status.code(), Some(1), "a shard without a backup needs attention");
    let status = json(&output);
    assert_eq!(
        (&status["ok"], &status["shards"][0]["last_backup"]),
        (&false.into(), &serde_json::Value::Null)
    );
    assert!(!dir.path().join("x").exists(), "nothing was touched");
}

#[test]
fn command_fails_if_its_result_cannot_be_written() {
    let repository = tempfile::tempdir().unwrap();
    let dir = with(&CONFIGURATION.replace("/nonexistent/backups", repository.path().to_str().unwrap()));
    assert_eq!(run(dir.path(), "init").status.code(), Some(0));
    for command in ["--json backups orders", "backups orders", "completions bash", "recover --help"] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let output = backstop(dir.path(), command).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("write the result to standard output"), "{}", stderr(&output));
    }
    let reader_gone = |command: &str| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        backstop(dir.path(), command).stdout(writer).output().unwrap().status.code()
    };
    assert_eq!(reader_gone("backups orders"), Some(0), "a person has read enough");
    assert_eq!(reader_gone("--json backups orders"), Some(1), "a program has half an object");
}

#[test]
fn colours_are_left_out_without_a_terminal() {
    let dir = with(CONFIGURATION);
    let output = run(dir.path(), "status");
    assert!(!stdout(&output).contains('\x1b') && !stderr(&output).contains('\x1b'));
}
