//! Checks that the names in documents exist: paths in backticks or links, and make targets.

use std::collections::BTreeSet;

use backstop_config::settings;

use crate::files::Text;

/// Folders at the root. Text in backticks that begins with one of them is a path.
const FOLDERS: [&str; 7] = ["crates/", "docs/", "bench/", "testing/", "deploy/", ".ci/", "target/release/"];

/// Endings that mark a name without a folder as a file at the root.
const ROOT_FILES: [&str; 7] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "clippy.toml"];

/// Returns the targets of a Makefile that its help lists.
pub fn make_targets(makefile: &str) -> BTreeSet<String> {
    let named = makefile.lines().filter(|line| line.contains(":") && line.contains("## "));
    named.filter_map(|line| line.split(':').next()).map(str::to_owned).collect()
}

/// Returns complaints about paths and make targets that a document names and that do not exist.
pub fn false_names(
    document: &Text,
    targets: &BTreeSet<String>,
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for named in named_in(&document.text) {
        let missing = match &named {
            NamedPath::Path(path) => !path.starts_with("target/") && !exists(path),
            NamedPath::Link(link) => !exists(&join(folder, link)),
            NamedPath::Target(target) => !targets.contains(target),
        };
        if missing {
            complaints.push(format!("{} names {named}, which does not exist", document.path));
        }
    }
    complaints
}

/// Returns complaints about configurations in a document (blocks of `toml`) that Backstop would
/// refuse.
pub fn refused_configurations(document: &Text) -> Vec<String> {
    let refused =
        toml_blocks(&document.text).filter_map(|block| settings::parse(&block, &document.path).err());
    refused
        .map(|faults| format!("{} shows a configuration that is refused: {faults}", document.path))
        .collect()
}

fn toml_blocks(text: &str) -> impl Iterator<Item = String> {
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.lines().map(str::trim_start).collect::<Vec<_>>().join("\n"))
}

/// Path or target that a document names.
#[derive(Debug, PartialEq, Eq)]
enum NamedPath {
    /// Relative to the root.
    Path(String),
    /// Relative to the document.
    Link(String),
    /// In the Makefile.
    Target(String),
}

impl std::fmt::Display for NamedPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "`{path}`"),
            Self::Link(link) => write!(f, "the link {link}"),
            Self::Target(target) => write!(f, "`make {target}`"),
        }
    }
}

fn named_in(text: &str) -> Vec<NamedPath> {
    let mut named = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            named.extend(target_in(line.trim_start().trim_start_matches("$ ")));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            named.extend(spans.flat_map(|span| target_in(span).into_iter().chain(path_in(span))));
            named.extend(links_in(line));
        }
    }
    named
}

/// Returns the target of `make x` at the beginning of a text.
fn target_in(text: &str) -> Option<NamedPath> {
    let mut words = text.split_whitespace();
    let target =
        words.next().filter(|word| *word == "make").and_then(|_| words.find(|word| !word.contains('=')))?;
    Some(NamedPath::Target(target.to_owned()))
}

fn path_in(span: &str) -> Option<NamedPath> {
    let path = span.split_once("::").map_or(span, |(path, _)| path).trim_end_matches('/');
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let known = ROOT_FILES.contains(&path) || FOLDERS.iter().any(|folder| span.starts_with(folder));
    (plain && known).then(|| NamedPath::Path(path.to_owned()))
}

/// Returns the targets of `[text](target)` that are files.
fn links_in(line: &str) -> impl Iterator<Item = NamedPath> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter_map(|target| target.split('#').next());
    files
        .filter(|file| !file.is_empty() && !file.contains("://"))
        .map(|file| NamedPath::Link(file.to_owned()))
}

fn join(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_documents_are_found_and_checked() {
        let shown = |text: &str| Text { path: "a.md".to_owned(), text: text.to_owned() };
        let good = "[repository]\nurl = \"file:///srv/b\"\n[shards.a]\ncredentials = { env = \"A\" }\n\
                    topology = { members = [\"db1\"] }\n";
        assert_eq!(refused_configurations(&shown(&format!("x\n```toml\n{good}```\n"))), Vec::<String>::new());
        let bad = good.replace("url", "ulr");
        let complaints =
            refused_configurations(&shown(&format!("x\n  ```toml\n{good}```\n```toml\n{bad}```\n")));
        assert!(complaints.len() == 1 && complaints[0].contains("ulr"), "{complaints:?}");
    }

    fn complaints(text: &str) -> Vec<String> {
        let targets = make_targets("help: ## list\ntest: ## run\n.PHONY: x\nhidden:\n");
        let document = Text { path: "docs/a.md".to_owned(), text: text.to_owned() };
        false_names(&document, &targets, |path| ["docs/b.md", "crates/repo", "README.md"].contains(&path))
    }

    #[test]
    fn existing_names_pass() {
        let good = "See `docs/b.md`, `crates/repo/`, `crates/repo::Reader`, [b](b.md#x), [r](../README.md), `make test`.\n\
                    `make SIZE=3 test`, [web](https://example.org/x), `/etc/docs/none`, `make` is a tool; make sure.\n\
                    ```\n$ make test\nmake help\n```\n";
        assert_eq!(complaints(good), Vec::<String>::new());
    }

    #[test]
    fn missing_names_are_found() {
        for (bad, named) in [
            ("see `docs/none.md`", "`docs/none.md`"),
            ("see `crates/none::Thing`", "`crates/none`"),
            ("see `CHANGELOG.md`", "`CHANGELOG.md`"),
            ("run `make coffee`", "`make coffee`"),
            ("run `make hidden`", "`make hidden`"),
            ("```\nmake coffee\n```", "`make coffee`"),
            ("[b](none.md)", "the link none.md"),
            ("[b](../none.md#part)", "the link ../none.md"),
        ] {
            assert_eq!(complaints(bad), [format!("docs/a.md names {named}, which does not exist")], "{bad}");
        }
    }
}
