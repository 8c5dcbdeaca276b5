//! What is to be stored.

use std::ops::Range;
use std::path::PathBuf;

use backstop_model::error::{Error, ErrorKind, Result};

/// A directory tree that is to be stored. It must not change while it is: it comes from a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Files, in any order. No path twice.
    pub files: Vec<TreeFile>,
    /// Directories below the root. Those that only lead to a file may be left out (they get mode 0750).
    pub directories: Vec<TreeDirectory>,
}

/// A directory that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDirectory {
    /// Relative, parts separated by `/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

/// A file that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Where it is restored to: relative, parts separated by `/`.
    pub path: String,
    /// Its bytes.
    pub content: FileContent,
    /// How many bytes. A file that turns out shorter is an error; what is beyond is not stored.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Its inode number, if that identifies it in the volume's history.
    pub inode: Option<u64>,
    /// What may differ from the parent.
    pub changed: FileChanges,
}

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// Those of a file on disk.
    File(PathBuf),
    /// These.
    Inline(Vec<u8>),
}

/// What of a file may differ from the parent's file of the same path and inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FileChanges {
    /// Anything: every byte is read and compared.
    #[default]
    Unknown,
    /// Only these byte ranges; the rest is taken from the parent unread.
    Only(Vec<Range<u64>>),
}

/// Files and directories sorted by path, each path one that can be restored below a directory.
pub(crate) fn checked_tree(tree: &Tree) -> Result<(Vec<TreeFile>, Vec<TreeDirectory>)> {
    let (mut files, mut directories) = (tree.files.clone(), tree.directories.clone());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    directories.sort_by(|a, b| a.path.cmp(&b.path));
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.extend(directories.iter().map(|directory| directory.path.as_str()));
    if let Some(path) = paths.iter().find(|path| !is_safe_path(path)) {
        return Err(Error::new(
            ErrorKind::Failed,
            format!("store `{path}`: it is no relative path below the directory"),
        ));
    }
    paths.sort_unstable();
    if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::new(ErrorKind::Failed, format!("store `{}`: it is there twice", pair[0])));
    }
    Ok((files, directories))
}

/// True for a relative path that leads downwards.
pub(crate) fn is_safe_path(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    path.split('/').all(part)
}
