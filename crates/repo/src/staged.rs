//! What writes that were killed left behind in a directory. The store writes `name#1` and renames it; listing
//! passes over such files, so they have to be looked for.

use std::path::{Path, PathBuf};

use backstop_model::fault::{Context, Result};

use crate::keys::ShardKeys;

/// The directory that a `file://` location names.
pub(crate) fn directory(url: &str) -> Option<PathBuf> {
    url.strip_prefix("file://").map(PathBuf::from)
}

/// The name that a staged file would have got; `None` for any other file.
pub(crate) fn destined(key: &str) -> Option<&str> {
    let (name, number) = key.rsplit_once('#')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Staged files of a shard, with their sizes.
pub(crate) fn list(root: &Path, keys: &ShardKeys) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut open = vec![root.join(keys.base())];
    while let Some(dir) = open.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).failed(format_args!("list {}", dir.display())),
        };
        for entry in entries {
            let entry = entry.failed(format_args!("list {}", dir.display()))?;
            // A file that is renamed meanwhile is none of those that were left behind.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if let Ok(key) = entry.path().strip_prefix(root)
                && let Some(key) = key.to_str()
                && destined(key).is_some()
            {
                found.push((key.to_owned(), meta.len()));
            }
        }
    }
    Ok(found)
}

/// Removes a staged file. One that is gone is no error.
pub(crate) fn remove(root: &Path, key: &str) -> Result<()> {
    match std::fs::remove_file(root.join(key)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).failed(format_args!("remove {key}"))
        }
        _ => Ok(()),
    }
}
