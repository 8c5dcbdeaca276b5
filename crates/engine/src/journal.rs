//! Journal of a story: its finished steps, and the output of each.
//!
//! One JSON object per line, written before a step begins and, with its output, after its effect;
//! each line is on disk before the story continues. A line cut short by a crash is ignored: its
//! step is idempotent and runs again. The journal never holds a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::RunContext;
use crate::disk::{Disk, DiskFile, HostDisk};

/// The journal of one story, open for writing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Size up to which it is whole lines.
    size: u64,
    begun: Vec<String>,
    outputs: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
enum JournalLine {
    Begun { step: String },
    Done { step: String, output: serde_json::Value },
}

impl Journal {
    /// Opens the journal, or begins one. Creates the directory with mode 0700.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if another process has it open; [`ErrorKind::Damaged`] if a
    /// whole line cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(&HostDisk, path)
    }

    /// Opens the journal on a disk, or begins one.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let what = format!("cannot open journal {}", path.display());
        if let Some(parent) = path.parent() {
            disk.create_dir(parent).failed(&what)?;
        }
        let journal = Self::load(path, disk.open_or_create(path).failed(&what)?)?;
        journal.file.truncate(journal.size).failed(&what)?;
        Ok(journal)
    }

    /// Looks into a journal that is there, and writes nothing.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn look(path: &Path) -> Result<Self> {
        let file = HostDisk.open(path).failed(format!("cannot open journal {}", path.display()))?;
        Self::load(path, file)
    }

    /// Locks and reads the journal.
    fn load(path: &Path, file: Box<dyn DiskFile>) -> Result<Self> {
        let what = format!("cannot open journal {}", path.display());
        if !file.lock().unwrap_or(false) {
            let message = format!("{what}: another run is working on this recovery");
            return Err(Error::new(ErrorKind::Held, message).hint("wait for it, or stop it first"));
        }
        let text = String::from_utf8(file.read_all().failed(&what)?).failed(&what)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let (path, begun, outputs) = (path.to_owned(), Vec::new(), BTreeMap::new());
        let mut journal = Self { path, file, size: whole as u64, begun, outputs };
        for line in text[..whole].lines() {
            journal.replay(line)?;
        }
        Ok(journal)
    }

    /// Returns the output of a step, if it is finished.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`] if the output is not of this type.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>> {
        let Some(value) = self.outputs.get(step) else { return Ok(None) };
        let what = format!("cannot read step {step} in journal {}", self.path.display());
        serde_json::from_value(value.clone()).context(ErrorKind::Damaged, what).map(Some)
    }

    /// True if the step has begun, finished or not, in this run or an earlier one.
    pub fn has_begun(&self, step: &str) -> bool {
        self.begun.iter().any(|s| s == step)
    }

    /// Records that a step begins.
    ///
    /// # Errors
    /// Fails if the line cannot be written to disk.
    pub fn begin(&mut self, step: &str) -> Result<()> {
        self.write(&JournalLine::Begun { step: step.to_owned() })?;
        self.begun.push(step.to_owned());
        Ok(())
    }

    /// Records that a step is done, with its output.
    ///
    /// # Errors
    /// Fails if the line cannot be written to disk.
    pub fn finish<T: Serialize>(&mut self, step: &str, output: &T) -> Result<()> {
        let output =
            serde_json::to_value(output).failed(format!("cannot write step {step} to the journal"))?;
        self.write(&JournalLine::Done { step: step.to_owned(), output: output.clone() })?;
        self.outputs.insert(step.to_owned(), output);
        Ok(())
    }

    fn replay(&mut self, line: &str) -> Result<()> {
        match serde_json::from_str(line) {
            Ok(JournalLine::Begun { step }) => self.begun.push(step),
            Ok(JournalLine::Done { step, output }) => {
                self.outputs.insert(step, output);
            }
            Err(error) => {
                let message = format!("cannot read journal {}: {error}", self.path.display());
                return Err(Error::new(ErrorKind::Damaged, message)
                    .hint("remove the directory and repeat the recovery"));
            }
        }
        Ok(())
    }

    fn write(&mut self, line: &JournalLine) -> Result<()> {
        let what = format!("cannot write journal {}", self.path.display());
        let mut text = serde_json::to_string(line).failed(&what)?;
        text.push('\n');
        self.file.write_at(text.as_bytes(), self.size).failed(&what)?;
        self.size += text.len() as u64;
        self.file.sync().failed(&what)
    }
}

/// Named steps of a story. Each is done once, however often the story is resumed.
pub struct Steps<'a> {
    journal: Journal,
    ctx: &'a RunContext,
}

impl<'a> Steps<'a> {
    /// Opens the journal of a story, or begins one.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open(path: &Path, ctx: &'a RunContext) -> Result<Self> {
        Ok(Self { journal: Journal::open(path)?, ctx })
    }

    /// Returns a step's output: the journaled one if it is done, else by running `work`. The work
    /// must be idempotent, since it runs again after a crash between its effect and the journal's
    /// line.
    ///
    /// # Errors
    /// Returns the step's own errors, or the journal's.
    pub async fn once<T, F>(&mut self, step: &'static str, work: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        match self.journal.output(step)? {
            Some(output) => Ok(output),
            None => self.again(step, work).await,
        }
    }

    /// Runs a step in every run, even if an earlier run has done it: for effects that a restart of
    /// the server undoes.
    ///
    /// # Errors
    /// Returns the step's own errors, or the journal's.
    pub async fn again<T, F>(&mut self, step: &'static str, work: F) -> Result<T>
    where
        T: Serialize,
        F: Future<Output = Result<T>>,
    {
        self.journal.begin(step)?;
        let output = self.ctx.step(step, work).await?;
        self.journal.finish(step, &output)?;
        Ok(output)
    }

    /// True if the step is done.
    pub fn is_done(&self, step: &str) -> bool {
        self.journal.outputs.contains_key(step)
    }

    /// True if the step has begun, in this run or an earlier one.
    pub fn has_begun(&self, step: &str) -> bool {
        self.journal.has_begun(step)
    }

    /// Returns a finished step's output.
    ///
    /// # Errors
    /// As [`Journal::output`].
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>> {
        self.journal.output(step)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    #[test]
    fn journal_keeps_completed_steps_and_drops_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j/journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("a").unwrap();
        journal.finish("a", &42).unwrap();
        journal.begin("b").unwrap();
        drop(journal);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"state\":\"do").unwrap();

        let torn = std::fs::read(&path).unwrap();
        assert_eq!(Journal::look(&path).unwrap().output::<i32>("a").unwrap(), Some(42));
        assert_eq!(std::fs::read(&path).unwrap(), torn, "looking changes nothing");
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.output::<i32>("a").unwrap(), Some(42));
        assert!(journal.has_begun("b") && journal.output::<i32>("b").unwrap().is_none());
        journal.finish("b", &"x").unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().output::<String>("b").unwrap().as_deref(), Some("x"));
    }

    #[test]
    fn journal_is_refused_if_locked_or_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let first = Journal::open(&path).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().kind, ErrorKind::Held);
        drop(first);
        std::fs::write(&path, "nonsense\n").unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().kind, ErrorKind::Damaged);
    }
}
