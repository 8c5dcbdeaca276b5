//! Checks the codes of findings, which are published for scripts and alarms: none is renamed, and
//! none is undocumented.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use backstop_testkit::frozen::frozen;

#[test]
fn finding_codes_are_documented_and_never_renamed() {
    let mut codes = BTreeSet::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("\nmod tests {").next().unwrap();
        for call in ["Finding::ok(", "Finding::warning(", "Finding::problem(", "= problem(", "(problem("] {
            codes.extend(text.split(call).skip(1).filter_map(|after| code(after, text)));
        }
    }
    frozen("finding-codes.txt", &codes.iter().map(|code| format!("{code}\n")).collect::<String>());
}

/// Returns the first argument of a call: a text, or a constant of the same file.
fn code(arguments: &str, file: &str) -> Option<String> {
    let first = arguments.trim_start().split([',', ')']).next()?.trim();
    let name = |literal: &str| Some(literal.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    if first.starts_with(|c: char| c.is_ascii_uppercase()) {
        let value = file.split(&format!("const {first}: &str = ")).nth(1)?;
        return name(value.split(';').next()?);
    }
    name(first)
}

fn sources() -> Vec<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path().join("src")).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    files
}
