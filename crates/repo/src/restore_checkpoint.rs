//! Checkpoint of a restore: the files that an interrupted restore had completed.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};

/// List of complete files by number, one per line, after a first line that names the restored
/// backup.
pub(crate) struct RestoreCheckpoint {
    files: BTreeSet<usize>,
    open: Option<(File, PathBuf)>,
}

impl RestoreCheckpoint {
    /// Reads the list, or creates it. Without a path, nothing is recorded.
    pub(crate) fn open(path: Option<&Path>, subject: &str) -> Result<Self> {
        let Some(path) = path else { return Ok(Self { files: BTreeSet::new(), open: None }) };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).failed(format_args!("cannot create {}", parent.display()))?;
        }
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).failed(format_args!("cannot read {}", path.display())),
        };
        let file = OpenOptions::new().append(true).create(true).open(path);
        let mut list = Self {
            files: complete_lines(&text).skip(1).filter_map(|line| line.parse().ok()).collect(),
            open: Some((file.failed(format_args!("cannot open {}", path.display()))?, path.to_owned())),
        };
        match complete_lines(&text).next() {
            None => list.restart(subject)?,
            Some(first) if first == subject => list.mend(&text)?,
            Some(_) => {
                let message = format!("{} belongs to the restore of another backup", path.display());
                return Err(Error::new(ErrorKind::Refused, message).hint("restore into an empty directory"));
            }
        }
        Ok(list)
    }

    pub(crate) fn files(&self) -> &BTreeSet<usize> {
        &self.files
    }

    pub(crate) fn contains(&self, file: usize) -> bool {
        self.files.contains(&file)
    }

    /// Records a file that is complete and durable. If a crash of the machine loses a line, a later
    /// restore writes that file again.
    pub(crate) fn add(&mut self, file: usize) -> Result<()> {
        self.write(&format!("{file}\n"))
    }

    fn restart(&mut self, subject: &str) -> Result<()> {
        if let Some((file, path)) = &self.open {
            file.set_len(0).failed(format_args!("cannot truncate {}", path.display()))?;
        }
        self.write(&format!("{subject}\n"))?;
        self.sync()
    }

    /// Completes a line that was cut off while it was written, so that it is not taken for another
    /// number.
    fn mend(&mut self, text: &str) -> Result<()> {
        if text.ends_with('\n') { Ok(()) } else { self.write("?\n") }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let Some((file, path)) = &mut self.open else { return Ok(()) };
        file.write_all(text.as_bytes()).failed(format_args!("cannot write {}", path.display()))
    }

    fn sync(&self) -> Result<()> {
        let Some((file, path)) = &self.open else { return Ok(()) };
        file.sync_all().failed(format_args!("cannot write {}", path.display()))
    }
}

fn complete_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}
