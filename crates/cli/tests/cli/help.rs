//! Help: for every command, with an example.

use crate::{run, stdout};

const COMMANDS: [&str; 13] = [
    "demo",
    "check",
    "backup",
    "backups",
    "plan",
    "recover",
    "rescue",
    "prune",
    "verify",
    "status",
    "shard",
    "schedule",
    "completions",
];

#[test]
fn every_command_has_help_with_an_example_and_lines_that_fit() {
    let dir = tempfile::tempdir().unwrap();
    let main = run(dir.path(), "--help");
    assert_eq!(main.status.code(), Some(0));
    for command in COMMANDS {
        assert!(stdout(&main).lines().any(|line| line.trim_start().starts_with(command)), "{command}");
        let help = run(dir.path(), &format!("{command} --help"));
        assert_eq!(help.status.code(), Some(0), "{command}");
        let text = stdout(&help);
        let example = text
            .lines()
            .any(|line| line.starts_with("    ") && line.contains(&format!("backstop {command}")));
        assert!(example && text.contains("Example"), "{command}: {text}");
        let long = text.lines().find(|line| line.chars().count() > 115);
        assert_eq!(long, None, "{command}");
    }
    for code in ["0", "1", "2", "10", "11", "12", "20", "21", "22", "130"] {
        let told =
            stdout(&main).split("Exit codes:").nth(1).unwrap().split_whitespace().any(|word| word == code);
        assert!(told, "exit code {code} is not in the help");
    }
}

#[test]
fn the_version_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "--version");
    assert_eq!(stdout(&output), format!("backstop {}\n", env!("CARGO_PKG_VERSION")));
}
