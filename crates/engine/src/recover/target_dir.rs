//! Target directories that a recovery creates, and removes if it is refused.

use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use backstop_types::error::{Result, ResultExt};

/// Files that one run has created in a target directory before it decided.
#[derive(Debug)]
pub(super) struct CreatedDirs {
    /// Directories, parents first.
    made: Vec<PathBuf>,
    /// The journal, if this run created it.
    journal: Option<PathBuf>,
}

impl CreatedDirs {
    /// Creates the target directory, which only its owner can enter. Every user can pass through
    /// parents that it creates: the server may run as another one.
    ///
    /// # Errors
    /// Fails if a directory cannot be created.
    pub(super) fn make(dir: &Path, journal: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).failed(format!("cannot find {}", dir.display()))?;
        let mut footprint =
            Self { made: Vec::new(), journal: (!journal.exists()).then(|| journal.to_owned()) };
        let mut missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
        missing.reverse();
        for path in missing {
            let mode = if path == dir { 0o700 } else { 0o755 };
            if let Err(error) = footprint.directory(path, mode) {
                footprint.remove();
                return Err(error);
            }
        }
        Ok(footprint)
    }

    /// Removes what was created, unless it holds other files.
    pub(super) fn remove(self) {
        if let Some(journal) = self.journal {
            // Leave what cannot be removed: the user must see the refusal.
            let _ = std::fs::remove_file(&journal);
            let _ = journal.parent().map(std::fs::remove_dir);
        }
        for path in self.made.iter().rev() {
            let _ = std::fs::remove_dir(path);
        }
    }

    fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        let what = format!("cannot create directory {}", path.display());
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            made => made.failed(&what)?,
        }
        self.made.push(path.to_owned());
        // The umask of the process may have removed permissions that others need.
        std::fs::set_permissions(path, Permissions::from_mode(mode)).failed(what)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn created_dirs_are_passable_and_removed_after_refusal() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("data/mysql");
        let journal = dir.join(".backstop/journal");
        let footprint = CreatedDirs::make(&dir, &journal).unwrap();
        assert_eq!((mode(&base.path().join("data")), mode(&dir)), (0o755, 0o700));
        std::fs::create_dir(dir.join(".backstop")).unwrap();
        std::fs::write(&journal, "").unwrap();
        footprint.remove();
        assert!(!base.path().join("data").exists() && base.path().exists());
    }

    #[test]
    fn existing_files_survive_removal_of_created_dirs() {
        let base = tempfile::tempdir().unwrap();
        let (dir, journal) = (base.path().join("x"), base.path().join("x/.backstop/journal"));
        std::fs::create_dir_all(dir.join(".backstop")).unwrap();
        std::fs::write(&journal, "begun").unwrap();
        CreatedDirs::make(&dir, &journal).unwrap().remove();
        assert!(journal.exists());
        let other = base.path().join("y");
        let footprint = CreatedDirs::make(&other, &other.join(".backstop/journal")).unwrap();
        std::fs::write(other.join("somebody's"), "").unwrap();
        footprint.remove();
        assert!(other.join("somebody's").exists());
    }
}
