//! The runbooks (`docs/runbooks`), compiled in, and filled in with a shard's own values.

mod blocks;
mod fill;
mod samples;

pub use blocks::{CommandBlock, blocks};
pub use fill::RunbookValues;
pub use samples::left_over;

/// Page with the commands for one situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runbook {
    /// Name of the situation: the page's file name without its extension.
    pub name: &'static str,
    /// Unmodified text of the page.
    pub text: &'static str,
}

macro_rules! runbook {
    ($name:literal) => {
        Runbook { name: $name, text: include_str!(concat!("../../../docs/runbooks/", $name, ".md")) }
    };
}

/// Every page, the most frequent situations first.
pub const RUNBOOKS: &[Runbook] = &[
    runbook!("table-dropped"),
    runbook!("bad-update"),
    runbook!("rows-back"),
    runbook!("copy"),
    runbook!("semi-sync-holds-writes"),
    runbook!("primary-dead"),
    runbook!("everything-is-gone"),
    runbook!("bucket-only"),
    runbook!("config-lost"),
    runbook!("key-lost"),
    runbook!("bucket-damaged"),
    runbook!("archive-gap"),
    runbook!("archiver-disk-full"),
    runbook!("move-host"),
    runbook!("rotate-passwords"),
];

/// Returns the page of this name.
pub fn find(name: &str) -> Option<&'static Runbook> {
    RUNBOOKS.iter().find(|runbook| runbook.name == name)
}

impl Runbook {
    /// Returns the page's title.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INDEX: &str = include_str!("../../../docs/runbooks/README.md");

    #[test]
    fn every_page_is_in_the_index_and_compiled_in() {
        let linked = INDEX.lines().filter_map(|line| line.split("](").nth(1)?.split(".md)").next());
        let mut linked: Vec<&str> = linked.filter(|name| !name.contains('/')).collect();
        let mut compiled: Vec<&str> = RUNBOOKS.iter().map(|runbook| runbook.name).collect();
        linked.sort_unstable();
        compiled.sort_unstable();
        assert_eq!(linked, compiled);
    }

    #[test]
    fn every_page_has_a_condition_and_commands() {
        for runbook in RUNBOOKS {
            assert!(runbook.text.starts_with("# ") && !runbook.title().is_empty(), "{}", runbook.name);
            assert!(runbook.text.contains("**When:** "), "{}", runbook.name);
            assert!(!blocks(runbook.text).is_empty(), "{} has no command", runbook.name);
        }
    }
}
