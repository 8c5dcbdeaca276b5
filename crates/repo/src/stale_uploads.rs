//! Files that killed writers left behind in a directory. The store writes `name#1` and renames it;
//! its listing omits such files, so this module searches for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_types::error::{Result, ResultExt};

use crate::keys::ShardKeys;
use crate::local_store::{LocalStore, PinnedDirectory};
use crate::store_error::store_error;

/// Returns the final name of a staged file; `None` for any other file.
pub(crate) fn final_name(key: &str) -> Option<&str> {
    let (name, number) = key.rsplit_once('#')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Returns the staged files of a shard, with their sizes. Empty for a store that is no directory.
pub(crate) async fn list_stale_uploads(
    local_store: Option<&LocalStore>,
    keys: &ShardKeys,
) -> Result<Vec<(String, u64)>> {
    match directory(local_store).await? {
        Some((_mount, root)) => find(&root, keys),
        None => Ok(Vec::new()),
    }
}

async fn directory(local_store: Option<&LocalStore>) -> Result<Option<(Arc<PinnedDirectory>, PathBuf)>> {
    match local_store {
        Some(local_store) => local_store
            .directory()
            .await
            .map_err(|error| store_error("open", "the repository's directory", &error)),
        None => Ok(None),
    }
}

fn find(root: &Path, keys: &ShardKeys) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut open = vec![root.join(keys.base())];
    while let Some(dir) = open.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).failed(format_args!("cannot list {}", dir.display())),
        };
        for entry in entries {
            let entry = entry.failed(format_args!("cannot list {}", dir.display()))?;
            // A file that is renamed during the search was not left behind.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if let Ok(key) = entry.path().strip_prefix(root)
                && let Some(key) = key.to_str()
                && final_name(key).is_some()
            {
                found.push((key.to_owned(), meta.len()));
            }
        }
    }
    Ok(found)
}

/// Removes a staged file. A missing file is no error.
pub(crate) async fn remove_stale_upload(local_store: &LocalStore, key: &str) -> Result<()> {
    let Some((_mount, root)) = directory(Some(local_store)).await? else { return Ok(()) };
    match std::fs::remove_file(root.join(key)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).failed(format_args!("cannot remove {key}"))
        }
        _ => Ok(()),
    }
}
