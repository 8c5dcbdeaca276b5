//! Compares `docs/recovered-settings.md` with the rule of each variable. `BLESS=1` rewrites it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use backstop_policy::carried_settings::rules;

const INTRODUCTION: &str = "\
# Settings of a recovered server

Every variable of MySQL 9.7, and how `recover` treats the value that was recorded with the backup. A backup records the values that were
set (in an option file, on the command line, with `SET PERSIST` or `SET GLOBAL`), and those that the data files depend on.

- **carried**: written into the new server's option file, if the value is of the named kind. A value that is not, and a variable that is
  not in this list, are left out and named by the finding `settings-not-carried`.
- **reported**: left out, and named by that finding, so that you can set it.
- **left out**: no other server has the same value, or the recovery sets it. The option file lists them as comments.

A name with `*` stands for all names that begin with it and are in no other line.
";

#[test]
fn page_of_recovered_settings_lists_every_rule() {
    let mut by_rule: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, rule) in rules() {
        by_rule.entry(rule.to_string()).or_default().push(name);
    }
    let mut page = INTRODUCTION.to_owned();
    for (rule, names) in &by_rule {
        let _ = write!(page, "\n## {}\n\n", capitalised(rule));
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let lines: Vec<_> = names.chunks(6).map(|line| line.join(", ")).collect();
        page.push_str(&(lines.join(",\n") + "\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recovered-settings.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/recovered-settings.md is old: run this test with BLESS=1");
}

fn capitalised(text: &str) -> String {
    let mut signs = text.chars();
    signs.next().map(|first| first.to_uppercase().collect::<String>() + signs.as_str()).unwrap_or_default()
}
