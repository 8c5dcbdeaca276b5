//! Converts an opened snapshot into the tree that is stored.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use backstop_repo::{FileChanges, FileContent, Tree, TreeDirectory, TreeFile};
use backstop_types::error::{Error, Result, ResultExt};

use crate::datadir_files::datadir_files;
use crate::ports::{ChangedFiles, SnapshotDir};

/// Walks a snapshot and describes the tree that is stored of it. `changes` are the ranges that may
/// differ from the parent of an increment, if the file system tracks them reliably.
///
/// # Errors
/// Fails if a file or folder cannot be read, or is neither: nothing is left out silently.
pub fn datadir_tree(opened: &SnapshotDir, changes: Option<&ChangedFiles>) -> Result<Tree> {
    let mut found = DatadirEntries::default();
    walk(&opened.root, &opened.root, &mut found)?;
    let index = match &opened.files.binlogs {
        Some(logs) => {
            let what = format!("cannot read the binary log index {}", logs.index.display());
            Some(std::fs::read_to_string(&logs.index).failed(what)?)
        }
        None => None,
    };
    let contents = datadir_files(&opened.root, &found.files, &opened.files, index.as_deref());
    let mut tree = Tree::default();
    for (path, file) in contents.kept {
        tree.files.push(stored_file(path, &file, changes)?);
    }
    for (path, bytes) in contents.written {
        tree.files.push(generated_file(path, bytes));
    }
    tree.directories = directories(&opened.root, &found.directories, &contents.left_out)?;
    Ok(tree)
}

#[derive(Default)]
struct DatadirEntries {
    files: Vec<String>,
    directories: Vec<String>,
}

fn walk(root: &Path, folder: &Path, found: &mut DatadirEntries) -> Result<()> {
    let what = format!("cannot read directory {}", folder.display());
    for entry in std::fs::read_dir(folder).failed(&what)? {
        let path = entry.failed(&what)?.path();
        let metadata = std::fs::symlink_metadata(&path);
        let kind = metadata.failed(format!("cannot inspect {}", path.display()))?.file_type();
        let name = relative(root, &path)?;
        if kind.is_dir() {
            found.directories.push(name);
            walk(root, &path, found)?;
        } else if kind.is_file() {
            found.files.push(name);
        } else if kind.is_symlink() {
            return Err(Error::refused(format!("cannot back up {}: it is a symbolic link", path.display()))
                .hint("move its target into the data directory: data behind links is not in the snapshot"));
        }
        // Sockets and pipes hold no data.
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> Result<String> {
    let inside = path.strip_prefix(root).failed(format!("cannot store {}", path.display()))?;
    let text = inside.to_str().ok_or("the name is not UTF-8");
    Ok(text.failed(format!("cannot store {}", path.display()))?.to_owned())
}

fn stored_file(path: String, file: &Path, changes: Option<&ChangedFiles>) -> Result<TreeFile> {
    let metadata = std::fs::metadata(file).failed(format!("cannot inspect {}", file.display()))?;
    let inode = metadata.ino();
    let changed = match changes.and_then(|changes| changes.get(&inode)) {
        Some(ranges) => FileChanges::Only(ranges.clone()),
        None => FileChanges::Unknown,
    };
    Ok(TreeFile {
        path,
        content: FileContent::File(file.to_owned()),
        size: metadata.len(),
        mode: metadata.permissions().mode() & 0o777,
        inode: Some(inode),
        changed,
    })
}

fn generated_file(path: String, bytes: Vec<u8>) -> TreeFile {
    let size = bytes.len() as u64;
    TreeFile {
        path,
        content: FileContent::Inline(bytes),
        size,
        mode: 0o640,
        inode: None,
        changed: FileChanges::Unknown,
    }
}

/// Returns the folders that are restored: all except those in which every file was excluded.
fn directories(root: &Path, all: &[String], left_out: &[(String, &str)]) -> Result<Vec<TreeDirectory>> {
    let emptied: BTreeSet<&str> =
        left_out.iter().filter_map(|(path, _)| path.split_once('/')).map(|(top, _)| top).collect();
    let kept = all.iter().filter(|path| !emptied.contains(path.split('/').next().unwrap_or_default()));
    kept.map(|path| {
        let what = format!("cannot inspect directory {path}");
        let mode = std::fs::metadata(root.join(path)).failed(what)?.permissions().mode() & 0o777;
        Ok(TreeDirectory { path: path.clone(), mode })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::datadir_files::{LogFiles, ServerFiles};

    fn opened(root: &Path) -> SnapshotDir {
        let base = root.join("binlog");
        let binlogs = Some(LogFiles { index: base.with_extension("index"), base });
        SnapshotDir { root: root.to_owned(), files: ServerFiles { binlogs, ..ServerFiles::default() } }
    }

    #[test]
    fn tree_lists_kept_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["shop", "empty", "#innodb_temp"] {
            std::fs::create_dir(root.join(folder)).unwrap();
        }
        for file in
            ["ibdata1", "shop/t.ibd", "auto.cnf", "#innodb_temp/t.ibt", "binlog.000001", "binlog.000002"]
        {
            std::fs::write(root.join(file), file).unwrap();
        }
        std::fs::write(root.join("binlog.index"), "./binlog.000001\n./binlog.000002\n").unwrap();
        let inode = std::fs::metadata(root.join("shop/t.ibd")).unwrap().ino();
        let changes = ChangedFiles::from([(inode, vec![0..5, 7..9])]);

        let tree = datadir_tree(&opened(root), Some(&changes)).unwrap();
        let mut paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["binlog.000002", "binlog.index", "ibdata1", "shop/t.ibd"]);
        let mut folders: Vec<_> = tree.directories.iter().map(|folder| folder.path.as_str()).collect();
        folders.sort_unstable();
        assert_eq!(folders, ["empty", "shop"]);
        let of = |name: &str| tree.files.iter().find(|file| file.path == name).unwrap();
        assert_eq!(of("shop/t.ibd").changed, FileChanges::Only(vec![0..5, 7..9]));
        assert_eq!((of("ibdata1").changed.clone(), of("ibdata1").size), (FileChanges::Unknown, 7));
        assert_eq!(of("binlog.index").content, FileContent::Inline(b"./binlog.000002\n".to_vec()));
    }

    #[test]
    fn symbolic_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/elsewhere", dir.path().join("shop")).unwrap();
        let opened = SnapshotDir { root: dir.path().to_owned(), files: ServerFiles::default() };
        assert!(datadir_tree(&opened, None).unwrap_err().message.contains("symbolic link"));
    }
}
