//! Help of every command: it has an example, and one form.

use crate::{backstop, run, stderr, stdout};

const COMMANDS: [&str; 18] = [
    "demo",
    "init",
    "check",
    "backup",
    "backups",
    "archive",
    "plan",
    "recover",
    "rescue",
    "find",
    "prune",
    "verify",
    "repair",
    "status",
    "shard",
    "shard adopt",
    "schedule",
    "completions",
];

#[test]
fn every_command_has_help_with_an_example() {
    let dir = tempfile::tempdir().unwrap();
    let main = run(dir.path(), "--help");
    assert_eq!(main.status.code(), Some(0));
    for command in COMMANDS {
        let help = run(dir.path(), &format!("{command} --help"));
        assert_eq!(help.status.code(), Some(0), "{command}");
        let text = stdout(&help);
        let example = text.contains(&format!("\n    backstop {command}")) && text.contains("Examples:");
        assert!(example || command == "shard adopt", "{command}: {text}");
        assert!(text.contains("Options of every command: backstop --help"), "{command}: {text}");
        assert!(!text.contains("--mysql-server"), "that is in the one place for it: {text}");
        for same in [format!("{command} -h"), format!("help {command}")] {
            assert_eq!(stdout(&run(dir.path(), &same)), text, "{same}");
        }
        let listed = |line: &str| line.trim_start().starts_with(command);
        assert!(command == "shard adopt" || stdout(&main).lines().any(listed), "{command}");
    }
    assert_eq!(stdout(&run(dir.path(), "help")), stdout(&main));
    assert!(stdout(&main).contains("--mysql-server"));
    for code in ["0", "1", "2", "10", "11", "12", "20", "21", "22", "130"] {
        let told =
            stdout(&main).split("Exit codes:").nth(1).unwrap().split_whitespace().any(|word| word == code);
        assert!(told, "exit code {code} is not in the help");
    }
}

#[test]
fn help_fits_the_terminal_and_keeps_commands_whole() {
    let dir = tempfile::tempdir().unwrap();
    for columns in [50, 80, 200] {
        for command in ["", "help"].into_iter().chain(COMMANDS) {
            let mut asked = backstop(dir.path(), command);
            let text = stdout(&asked.arg("--help").env("COLUMNS", columns.to_string()).output().unwrap());
            let is_command =
                |line: &str| ["    backstop ", "Usage: "].iter().any(|start| line.starts_with(start));
            let long = text.lines().find(|line| !is_command(line) && line.chars().count() > columns);
            assert_eq!(long, None, "{command} at {columns}");
            assert!(!text.contains('\u{a0}'), "{command}");
        }
    }
    let mut asked = backstop(dir.path(), "recover --help");
    let narrow = stdout(&asked.env("COLUMNS", "50").output().unwrap());
    let whole =
        "    backstop recover orders --to latest --into /srv/copy --standalone --port 3307 --check full\n";
    assert!(narrow.contains(whole), "{narrow}");
}

#[test]
fn dry_run_option_is_answered_with_its_equivalent() {
    let dir = tempfile::tempdir().unwrap();
    for (command, meant) in [
        ("recover orders --to latest --into x --join", "`recover --plan`"),
        ("prune orders", "--apply"),
        ("backup orders", "`backstop check`"),
    ] {
        let told = run(dir.path(), &format!("{command} --dry-run"));
        assert_eq!(told.status.code(), Some(2));
        assert!(
            stderr(&told).contains(meant) && !stderr(&told).contains("-- --dry-run"),
            "{}",
            stderr(&told)
        );
        let told = run(dir.path(), &format!("{command} --dry-run --json"));
        let error: serde_json::Value = serde_json::from_str(&stdout(&told)).unwrap();
        assert!(error["hint"].as_str().unwrap().contains(meant), "{error}");
    }
}

#[test]
fn version_option_prints_the_version() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "--version");
    assert_eq!(stdout(&output), format!("backstop {}\n", env!("CARGO_PKG_VERSION")));
}
