//! Rules for every file of the repository.

use std::path::Path;

/// Text file of the repository.
pub struct Text {
    /// Path relative to the root, parts separated by `/`.
    pub path: String,
    pub text: String,
}

/// Maximum number of lines in a source file.
const MAX_LINES: usize = 600;

/// Longer source files, each with its maximum number of lines. Entries may only be lowered or
/// removed.
pub const LONGER_FILES: &[(&str, usize)] = &[];

/// Folders and files that are not the project's text.
const SKIPPED: [&str; 6] = ["target", ".git", ".cache", "bench/out", "Cargo.lock", "LICENSE"];

/// File names that say nothing about their contents.
const VAGUE: [&str; 8] = ["util", "utils", "common", "helpers", "misc", "manager", "handler", "handlers"];

/// Returns every text file below the root.
pub fn texts(root: &Path) -> Vec<Text> {
    let mut found = Vec::new();
    gather(root, "", &mut found);
    found
}

/// Returns complaints about source files that are too long, and about exceptions that are no longer
/// needed.
pub fn too_long(texts: &[Text], longer: &[(&str, usize)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in texts.iter().filter(|file| file.path.ends_with(".rs")) {
        let lines = file.text.lines().count();
        let exception = longer.iter().find(|(path, _)| *path == file.path).map(|(_, lines)| *lines);
        if lines > exception.unwrap_or(MAX_LINES) {
            complaints.push(format!("{} has {lines} lines: split it by what it is about", file.path));
        }
        if exception.is_some() && lines <= MAX_LINES {
            complaints.push(format!("{} has {lines} lines: take it off the list of longer files", file.path));
        }
    }
    complaints
}

/// Returns complaints about source files with a vague name.
pub fn vaguely_named(texts: &[Text]) -> Vec<String> {
    let sources = texts.iter().filter(|file| file.path.ends_with(".rs"));
    let vague =
        sources.filter(|file| file.path.trim_end_matches(".rs").split('/').any(|part| VAGUE.contains(&part)));
    vague.map(|file| format!("{}: name the noun or the verb that it is about", file.path)).collect()
}

/// Returns complaints about files that name the host of a package registry: the project requests
/// packages by name, and the machine's own configuration determines the registry.
pub fn naming_a_registry(texts: &[Text]) -> Vec<String> {
    let hosts = registries();
    let named = texts.iter().flat_map(|file| {
        let found = hosts.iter().filter(|host| file.text.contains(host.as_str()));
        found.map(|host| format!("{} names the registry {host}", file.path))
    });
    named.collect()
}

/// Returns the hosts of package registries, written in parts so that this file does not name them.
fn registries() -> Vec<String> {
    let parts = [
        ("crates", "io"),
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb.debian", "org"),
        ("ftp.debian", "org"),
        ("security.debian", "org"),
        ("snapshot.debian", "org"),
        ("archive.ubuntu", "com"),
        ("repo.mysql", "com"),
        ("dev.mysql", "com"),
        ("rubygems", "org"),
        ("proxy.golang", "org"),
        ("static.rust-lang", "org"),
        ("sh.rustup", "rs"),
        ("docker", "io"),
        ("ghcr", "io"),
    ];
    parts.iter().map(|(name, domain)| format!("{name}.{domain}")).collect()
}

fn gather(root: &Path, below: &str, found: &mut Vec<Text>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().unwrap();
        if SKIPPED.contains(&path.as_str()) {
            continue;
        }
        if kind.is_dir() {
            gather(root, &path, found);
        } else if kind.is_file()
            && let Ok(text) = std::fs::read_to_string(entry.path())
        {
            found.push(Text { path, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, text: &str) -> Text {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn long_files_are_found_and_the_list_of_exceptions_shrinks() {
        let (short, long) = ("x\n".repeat(MAX_LINES), "x\n".repeat(MAX_LINES + 1));
        let files = [text("a.rs", &short), text("b.rs", &long), text("c.md", &long)];
        assert_eq!(too_long(&files, &[]), ["b.rs has 601 lines: split it by what it is about"]);
        assert!(too_long(&files, &[("b.rs", MAX_LINES + 1)]).is_empty());
        assert_eq!(too_long(&files, &[("a.rs", 900), ("b.rs", 601)]).len(), 1, "a.rs needs no exception");
    }

    #[test]
    fn vague_names_are_found() {
        let files = [text("src/utils.rs", ""), text("src/common/mod.rs", ""), text("src/backup.rs", "")];
        assert_eq!(vaguely_named(&files).len(), 2);
    }

    #[test]
    fn names_of_registries_are_found() {
        let host = &registries()[0];
        let files = [text("a.md", &format!("see https://{host}/x")), text("b.md", "see the registry")];
        assert_eq!(naming_a_registry(&files), [format!("a.md names the registry {host}")]);
    }
}
