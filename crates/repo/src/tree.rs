//! Directory tree to store.

use std::ops::Range;
use std::path::PathBuf;

use backstop_types::error::{Error, ErrorKind, Result};

/// Directory tree to store. It must not change while it is stored: it comes from a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Files, in any order. No path occurs twice.
    pub files: Vec<TreeFile>,
    /// Directories below the root. Those that only lead to a file may be left out (they get mode
    /// 0750).
    pub directories: Vec<TreeDirectory>,
}

/// Directory to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDirectory {
    /// Relative path, parts separated by `/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

/// File to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Path to restore to: relative, parts separated by `/`.
    pub path: String,
    /// Its bytes.
    pub content: FileContent,
    /// Size in bytes. A file that turns out shorter is an error; bytes beyond the size are not
    /// stored.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Inode number, if that identifies the file in the volume's history.
    pub inode: Option<u64>,
    /// Parts that may differ from the parent.
    pub changed: FileChanges,
}

/// Bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// Content of a file on disk.
    File(PathBuf),
    /// These bytes.
    Inline(Vec<u8>),
}

/// Parts of a file that may differ from the parent's file of the same path and inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FileChanges {
    /// Any part: every byte is read and compared.
    #[default]
    Unknown,
    /// Only these byte ranges; the rest is taken from the parent unread.
    Only(Vec<Range<u64>>),
}

/// Returns files and directories sorted by path, after checking that each path can be restored
/// below a directory.
pub(crate) fn checked_tree(tree: &Tree) -> Result<(Vec<TreeFile>, Vec<TreeDirectory>)> {
    let (mut files, mut directories) = (tree.files.clone(), tree.directories.clone());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    directories.sort_by(|a, b| a.path.cmp(&b.path));
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.extend(directories.iter().map(|directory| directory.path.as_str()));
    if let Some(path) = paths.iter().find(|path| !is_safe_path(path)) {
        return Err(Error::new(
            ErrorKind::Failed,
            format!("cannot store `{path}`: it is not a relative path below the directory"),
        ));
    }
    paths.sort_unstable();
    if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::new(ErrorKind::Failed, format!("cannot store `{}`: it is listed twice", pair[0])));
    }
    Ok((files, directories))
}

/// Returns true for a relative path that does not leave its directory.
pub(crate) fn is_safe_path(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    path.split('/').all(part)
}
