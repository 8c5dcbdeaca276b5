//! Reads progress and errors from a server's error log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::command::last_lines;

/// Limit for one read from a log, in bytes.
const MAX_READ_BYTES: u64 = 64 * 1024;

/// Words in lines that report the progress of crash recovery.
const PROGRESS_WORDS: [&str; 6] = [
    "Starting crash recovery",
    "Applying a batch of",
    "Log scan",
    "Doing recovery",
    "Rolling back trx",
    "Apply batch completed",
];

/// Follows a log from its present end.
pub struct ErrorLogFollower {
    path: PathBuf,
    offset: u64,
}

impl ErrorLogFollower {
    /// Creates a follower that begins at the log's present end.
    pub fn new(path: &Path) -> Self {
        let offset = std::fs::metadata(path).map_or(0, |meta| meta.len());
        Self { path: path.to_owned(), offset }
    }

    /// Returns the new lines that report progress, without their timestamps.
    pub fn progress(&mut self) -> Vec<String> {
        let text = read_from(&self.path, self.offset);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        let telling = |line: &&str| PROGRESS_WORDS.iter().any(|words| line.contains(words));
        text[..whole].lines().filter(telling).map(message).collect()
    }
}

/// Returns the errors in the text of a log, without lines that only say that errors occurred.
pub fn errors(text: &str) -> Vec<String> {
    let told = text.lines().filter(|line| line.contains("[ERROR]") || line.starts_with("mysqld: "));
    told.map(message).filter(|line| !line.ends_with(" Aborting")).collect()
}

/// Returns the last errors in a log, or its last lines if it has none.
pub fn last_errors(path: &Path) -> String {
    let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let text = read_from(path, length.saturating_sub(MAX_READ_BYTES));
    let errors: Vec<_> = text.lines().filter(|line| line.contains("[ERROR]")).map(message).collect();
    if errors.is_empty() { last_lines(&text, 5) } else { last_lines(&errors.join("\n"), 5) }
}

fn read_from(path: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.take(MAX_READ_BYTES).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return String::new();
    }
    // Invalid bytes keep their length: the offset counts bytes of the file.
    String::from_utf8(bytes).unwrap_or_else(|error| error.into_bytes().iter().map(|&b| ascii(b)).collect())
}

fn ascii(byte: u8) -> char {
    if byte.is_ascii() { byte as char } else { '?' }
}

/// Returns a line without its time and thread: `[ERROR] [MY-012345] [InnoDB] …`.
fn message(line: &str) -> String {
    line.find('[').map_or(line, |at| &line[at..]).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn error_log_yields_new_progress_and_last_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "2026-11-23T02:00:00Z 1 [System] Applying a batch of 1\n").unwrap();
        let mut watch = ErrorLogFollower::new(&path);
        let more = "2026-11-23T02:00:01Z 1 [System] [InnoDB] Applying a batch of 9 redo log records\n\
            2026-11-23T02:00:02Z 0 [ERROR] [MY-1] [Server] no caf\u{e9}\nApplying a ba";
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(more);
        std::fs::write(&path, text).unwrap();
        assert_eq!(watch.progress(), ["[System] [InnoDB] Applying a batch of 9 redo log records"]);
        assert!(watch.progress().is_empty());
        assert_eq!(last_errors(&path), "[ERROR] [MY-1] [Server] no caf\u{e9}");
        assert_eq!(last_errors(&dir.path().join("none")), "");
    }
}
