//! A repository is created on purpose: by `init`, or by a first backup if the configuration allows
//! that.

use std::path::Path;

use serde_json::Value;

use crate::{json, run, stderr, stdout};

/// Returns a folder with a configuration of a repository in `repository`, which does not exist.
fn place(more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), more);
    dir
}

fn configure(dir: &Path, more: &str) {
    let text = format!(
        "[repository]\nurl = \"file://{}/repository\"\n{more}\n[shards.orders]\n\
         credentials = {{ file = \"/nonexistent/orders.toml\" }}\ntopology = {{ members = [\"127.0.0.1:1\"] }}\n\
         archive = {{ from = \"primary\" }}\n",
        dir.display()
    );
    std::fs::write(dir.join("backstop.toml"), text).unwrap();
}

fn id(dir: &Path) -> String {
    let output = run(dir, "init --json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    json(&output)["repository"].as_str().unwrap().to_owned()
}

/// Commands that need a repository and do not create one.
const READERS: [&str; 10] = [
    "backups orders",
    "backups orders --latest",
    "plan orders --to latest",
    "recover orders --to latest --into x --standalone",
    "find orders",
    "prune orders",
    "prune --apply",
    "verify",
    "status",
    "check",
];

#[test]
fn commands_end_with_21_without_a_repository() {
    for more in ["", "create = \"if-empty\""] {
        let dir = place(more);
        for command in READERS.iter().filter(|command| more.is_empty() || **command != "check") {
            let output = run(dir.path(), command);
            let said = format!("{command}: {}{}", stdout(&output), stderr(&output));
            assert_eq!(output.status.code(), Some(21), "{said}");
            assert!(said.contains("backstop init") && said.contains("mounted"), "{said}");
            assert!(!dir.path().join("repository").exists() && !dir.path().join("x").exists(), "{said}");
        }
    }
    let dir = place("");
    for command in ["backup orders", "archive orders"] {
        let command = format!("{command} --set shards.orders.credentials.env=LOGIN");
        let output =
            crate::backstop(dir.path(), &command).env("LOGIN", "user='u'\npassword='p'").output().unwrap();
        assert_eq!(output.status.code(), Some(21), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("backstop init"), "{}", stderr(&output));
        assert!(!dir.path().join("repository").exists(), "{command}");
    }
}

#[test]
fn check_reports_that_a_backup_makes_the_repository() {
    let dir = place("create = \"if-empty\"");
    let output = run(dir.path(), "check --json");
    assert_eq!(output.status.code(), Some(1), "the shard is not there: {}", stdout(&output));
    assert_eq!(json(&output)["findings"][0]["code"], "no-repository-yet");
    assert!(!dir.path().join("repository").exists());
}

#[test]
fn init_makes_a_repository_once_and_then_reports_it() {
    let dir = place("");
    let first = json(&run(dir.path(), "init --json"));
    assert_eq!(
        (&first["made"], &first["encrypted"], &first["pinned"]),
        (&true.into(), &false.into(), &false.into())
    );
    assert!(
        first["repository"].is_string() && first["url"].as_str().unwrap().starts_with("file:///"),
        "{first}"
    );
    let again = json(&run(dir.path(), "init --json"));
    assert_eq!((&again["made"], &again["repository"]), (&false.into(), &first["repository"]));
    let said = run(dir.path(), "init");
    assert!(stdout(&said).contains("already") && said.status.code() == Some(0), "{}", stdout(&said));
    let listed = run(dir.path(), "backups orders --json");
    assert_eq!(json(&listed)["backups"], Value::Array(Vec::new()));
    let made = std::fs::metadata(dir.path().join("repository")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&made.permissions()) & 0o777, 0o700);
}

#[test]
fn stored_files_are_private_in_an_open_directory() {
    use std::os::unix::fs::PermissionsExt;
    let dir = place("");
    let repository = dir.path().join("repository");
    std::fs::create_dir(&repository).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&repository, open.clone()).unwrap();
    id(dir.path());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&repository), mode(&repository.join("shards"))), (0o755, 0o700));
    let warned = || {
        let findings = json(&run(dir.path(), "check --json"))["findings"].clone();
        findings.as_array().unwrap().iter().any(|finding| finding["code"] == "repository-readable-by-others")
    };
    assert!(!warned());
    std::fs::set_permissions(repository.join("shards"), open).unwrap();
    assert!(warned());
}

#[test]
fn repository_with_another_id_is_refused() {
    let (dir, other) = (place(""), place(""));
    let (ours, theirs) = (id(dir.path()), id(other.path()));
    assert_ne!(ours, theirs);
    let checked = json(&run(dir.path(), "check --json"));
    let line = format!("id = \"{ours}\"");
    assert_eq!(checked["findings"][0]["code"], "repository-not-named");
    assert!(checked["findings"][0]["todo"].as_str().unwrap().contains(&line), "{checked}");

    configure(dir.path(), &line);
    assert_eq!(run(dir.path(), "backups orders").status.code(), Some(0));
    assert_eq!(json(&run(dir.path(), "check --json"))["findings"][0]["code"], "repository-named");
    assert_eq!(json(&run(dir.path(), "init --json"))["pinned"], true);

    // Another volume is mounted there.
    std::fs::rename(dir.path().join("repository"), dir.path().join("kept")).unwrap();
    std::fs::rename(other.path().join("repository"), dir.path().join("repository")).unwrap();
    for command in ["init", "backups orders", "verify", "status", "prune --apply", "check"] {
        let output = run(dir.path(), command);
        assert_eq!(output.status.code(), Some(20), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(&ours) && stderr(&output).contains(&theirs), "{}", stderr(&output));
    }
    // No volume is mounted: no other repository is created in its place, even if the configuration
    // allows to create one.
    std::fs::remove_dir_all(dir.path().join("repository")).unwrap();
    configure(dir.path(), &format!("{line}\ncreate = \"if-empty\""));
    for command in ["init", "backups orders", "check"] {
        let output = run(dir.path(), command);
        assert_eq!(output.status.code(), Some(21), "{command}: {}", stderr(&output));
        assert!(!dir.path().join("repository").exists(), "{command}");
    }
}
