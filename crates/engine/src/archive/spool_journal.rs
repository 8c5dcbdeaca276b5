//! Spool journal: the spooled transactions that are durable on this host's disk. Acknowledged
//! transactions must reach the archive whatever happens to the archiver.
//!
//! Beside each file of the spool `FILE.pieces` has a line for each chunk, in order: sixteen hex
//! digits of the BLAKE3 of the rest, a space, and a JSON object. Lines of older versions are the
//! object alone. An invalid last line is torn, and its chunk was not acknowledged; an invalid line
//! before others is damage.

use std::io;
use std::path::{Path, PathBuf};

use backstop_binlog::{Segment, SegmentCheck};
use backstop_types::archive::SegmentHash;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::queue::{AckPosition, Chunk};
use crate::disk::{Disk, DiskFile};

/// Bytes of a chunk that are read at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Hex digits of a line's checksum.
const CHECKSUM_DIGITS: usize = 16;

#[derive(Serialize, Deserialize)]
struct NoteLine {
    source: ServerUuid,
    file: String,
    start: u64,
    end: u64,
    previous: GtidSet,
    gtids: GtidSet,
    committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Offset of its bytes in the file; for lines of older versions the first line determines it.
    #[serde(default)]
    skip: Option<u64>,
    /// BLAKE3 of its bytes, in hex.
    #[serde(default)]
    hash: Option<String>,
}

/// Returns the path of the journal of a spool's file.
pub(super) fn journal_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pieces");
    name.into()
}

/// Returns the line for a chunk whose bytes have this hash and begin at this offset of the file.
pub(super) fn note_line(at: &AckPosition, chunk: &Chunk, skip: u64, hash: &blake3::Hash) -> Result<Vec<u8>> {
    let line = NoteLine {
        source: at.source,
        file: at.file.clone(),
        start: chunk.start,
        end: chunk.end,
        previous: chunk.previous.clone(),
        gtids: chunk.gtids.clone(),
        committed: chunk.committed,
        skip: Some(skip),
        hash: Some(hash.to_hex().to_string()),
    };
    let text = serde_json::to_string(&line).failed("cannot write the spool's journal")?;
    Ok(format!("{} {text}\n", checksum(&text)).into_bytes())
}

fn checksum(text: &str) -> String {
    let mut sum = blake3::hash(text.as_bytes()).to_hex().to_string();
    sum.truncate(CHECKSUM_DIGITS);
    sum
}

fn parse(line: &str) -> Option<NoteLine> {
    let text = match line.split_once(' ') {
        Some((told, text)) if told.len() == CHECKSUM_DIGITS && !told.starts_with('{') => {
            if checksum(text) != told {
                return None;
            }
            text
        }
        _ => line,
    };
    serde_json::from_str(text).ok().filter(|line: &NoteLine| line.start <= line.end)
}

/// Checks the bytes of a chunk in a file of the spool: they must be binlog events with the chunk's
/// transactions. Passes them on, and returns their hash.
///
/// # Errors
/// Returns [`ErrorKind::Damaged`] if the bytes differ or are incomplete.
pub(super) fn check_chunk(
    file: &dyn DiskFile,
    skip: u64,
    chunk: &Chunk,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<blake3::Hash> {
    let doing = "cannot read the spool";
    let damaged = |what: String| Error::new(ErrorKind::Damaged, format!("{doing}: {what}"));
    let (mut check, mut hasher) = (SegmentCheck::new(chunk.start, chunk.end), blake3::Hasher::new());
    let (mut part, mut at) = (vec![0; READ_BUFFER_BYTES], 0);
    while at < chunk.size() {
        let length =
            usize::try_from(chunk.size() - at).map_or(READ_BUFFER_BYTES, |left| left.min(READ_BUFFER_BYTES));
        let part = part.get_mut(..length).unwrap_or_default();
        file.read_at(part, skip + at).map_err(|error| damaged(error.to_string()))?;
        check.update(part).map_err(|failure| damaged(failure.message))?;
        hasher.update(part);
        take(part).failed("cannot write the spool")?;
        at += length as u64;
    }
    let found = check.finish().map_err(|failure| damaged(failure.message))?;
    let lacks = chunk.gtids.subtract(&found);
    if !lacks.is_empty() {
        return Err(damaged(format!("the chunk lacks transactions {lacks}")));
    }
    Ok(hasher.finalize())
}

/// A chunk that a killed archiver left, with its location.
#[derive(Debug, Clone)]
pub(super) struct RecoveredChunk {
    pub(super) segment: Segment,
    /// The file of the spool.
    pub(super) path: PathBuf,
    skip: u64,
    hash: Option<String>,
}

impl RecoveredChunk {
    /// Returns its bytes, which must be the ones that were acknowledged.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`] if they are not.
    pub(super) fn bytes(&self, disk: &dyn Disk) -> Result<Vec<u8>> {
        let doing = format!("cannot read the spool {}", self.path.display());
        let damaged = |what: String| {
            let message = format!("{doing}: {what}; transactions {} were acknowledged", self.segment.gtids);
            Error::new(ErrorKind::Damaged, message).hint(MOVE_SPOOL_HINT)
        };
        let mut bytes = vec![0; usize::try_from(self.segment.size()).unwrap_or(usize::MAX)];
        let file = disk.open(&self.path).map_err(|error| damaged(error.to_string()))?;
        file.read_at(&mut bytes, self.skip).map_err(|error| damaged(error.to_string()))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        if self.hash.as_ref().is_some_and(|noted| *noted != hash) {
            return Err(damaged("the bytes differ from those recorded in the journal".to_owned()));
        }
        SegmentCheck::all(self.segment.start, &bytes).map_err(|failure| damaged(failure.message))?;
        Ok(bytes)
    }
}

/// Hint for a spool that cannot be archived.
pub(super) const MOVE_SPOOL_HINT: &str = "move the spool away to continue without them: the archiver requests again what the source still has; mysqlbinlog can read the files";

/// Contents of the journals in a folder.
#[derive(Debug, Default)]
pub(super) struct SpoolContents {
    /// Every chunk, by server, file and offset.
    pub(super) chunks: Vec<RecoveredChunk>,
    /// Damage of a journal. `chunks` includes the chunks before it.
    pub(super) damage: Option<Error>,
}

/// Reads every journaled chunk of a folder. A torn last line was not acknowledged and is ignored.
pub(super) fn read_spool(disk: &dyn Disk, dir: &Path) -> Result<SpoolContents> {
    let mut noted = SpoolContents::default();
    for path in spool_files(disk, dir)?.into_iter().filter(|path| is_journal(path)) {
        let text = disk.read(&path).failed(format!("cannot read {}", path.display()))?;
        read_journal(&path, &String::from_utf8_lossy(&text), &mut noted);
    }
    let key = |left: &RecoveredChunk| {
        let segment = &left.segment;
        // Shorter names sort first: the number in a file's name may gain a digit.
        (segment.source, segment.file.len(), segment.file.clone(), segment.start, segment.end)
    };
    noted.chunks.sort_by_key(key);
    Ok(noted)
}

fn read_journal(path: &Path, text: &str, noted: &mut SpoolContents) {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut begin = None;
    for (at, text) in lines.iter().enumerate() {
        let parsed = text.strip_suffix('\n').and_then(parse);
        let Some(line) = parsed else {
            if at + 1 < lines.len() {
                let message = format!(
                    "cannot read {}: line {} is damaged, and others follow it",
                    path.display(),
                    at + 1
                );
                noted.damage.get_or_insert(Error::new(ErrorKind::Damaged, message).hint(MOVE_SPOOL_HINT));
            }
            return;
        };
        let begin = *begin.get_or_insert(line.start);
        noted.chunks.push(RecoveredChunk {
            segment: Segment {
                source: line.source,
                file: line.file,
                start: line.start,
                end: line.end,
                previous: line.previous,
                gtids: line.gtids,
                committed: line.committed,
                hash: SegmentHash([0; 32]),
            },
            path: path.with_extension(""),
            skip: line.skip.unwrap_or(line.start.saturating_sub(begin)),
            hash: line.hash,
        });
    }
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "pieces")
}

/// True if transactions may have been acknowledged from a folder.
pub(super) fn has_any(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    Ok(spool_files(disk, dir)?.iter().any(|path| is_journal(path)))
}

/// Returns the files of a spool and ignores other files in its folder.
pub(super) fn spool_files(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    disk.list(dir).failed(format!("cannot read the spool {}", dir.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sample_binlog::{SAMPLE_FILE, chunk, server, transactions};
    use super::*;
    use crate::disk::HostDisk;

    fn at(offset: u64) -> AckPosition {
        AckPosition { source: server(), file: SAMPLE_FILE.to_owned(), offset }
    }

    /// Creates a file of the spool with two chunks; returns it with their two journal lines.
    fn spooled(dir: &Path) -> (PathBuf, Vec<u8>, Vec<u8>) {
        let path = dir.join("u.binlog.000007.000000000700");
        let (first, second) = (transactions(700, 1, 2), transactions(700, 1, 5));
        std::fs::write(&path, &second).unwrap();
        let rest = &second[first.len()..];
        let middle = 700 + first.len() as u64;
        let chunks = [chunk(700, &first, "A:1-2"), chunk(middle, rest, "A:3-5")];
        let [one, two] = chunks.map(|chunk| {
            let skip = chunk.start - 700;
            let bytes = &second[skip as usize..(chunk.end - 700) as usize];
            note_line(&at(chunk.end), &chunk, skip, &blake3::hash(bytes)).unwrap()
        });
        (path, one, two)
    }

    #[test]
    fn torn_last_line_is_skipped_at_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let (path, one, two) = spooled(dir.path());
        for end in 0..two.len() {
            std::fs::write(journal_path(&path), [&one, &two[..end]].concat()).unwrap();
            let noted = read_spool(&HostDisk, dir.path()).unwrap();
            assert_eq!((noted.chunks.len(), noted.damage), (1, None), "{end}");
        }
        std::fs::write(journal_path(&path), [one, two].concat()).unwrap();
        let all = read_spool(&HostDisk, dir.path()).unwrap();
        assert_eq!(all.chunks.len(), 2);
        assert_eq!(all.chunks[1].bytes(&HostDisk).unwrap().len() as u64, all.chunks[1].segment.size());
        assert!(
            has_any(&HostDisk, dir.path()).unwrap()
                && !has_any(&HostDisk, &dir.path().join("nowhere")).unwrap()
        );
    }

    #[test]
    fn damaged_inner_line_is_reported_after_the_intact_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (path, one, two) = spooled(dir.path());
        for (which, at) in [(1, 0), (1, 30), (1, two.len() / 2)] {
            let mut lines = [one.clone(), two.clone(), two.clone()];
            lines[which][at] ^= 1;
            std::fs::write(journal_path(&path), lines.concat()).unwrap();
            let noted = read_spool(&HostDisk, dir.path()).unwrap();
            assert_eq!(noted.chunks.len(), 1);
            let damage = noted.damage.unwrap();
            assert_eq!(damage.kind, ErrorKind::Damaged);
            assert!(damage.message.contains("line 2"), "{damage}");
        }
        // Half a line followed by the next one: the result of an append after a failed append.
        std::fs::write(journal_path(&path), [&one, &two[..two.len() / 2], &two, &two].concat()).unwrap();
        assert!(read_spool(&HostDisk, dir.path()).unwrap().damage.is_some());
    }

    #[test]
    fn bytes_changed_after_their_entry_are_reported_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (path, one, two) = spooled(dir.path());
        std::fs::write(journal_path(&path), [one, two].concat()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let noted = read_spool(&HostDisk, dir.path()).unwrap();
        assert!(noted.chunks[0].bytes(&HostDisk).is_ok());
        let error = noted.chunks[1].bytes(&HostDisk).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert!(error.message.contains(":3-5"), "{error}");
    }

    #[test]
    fn lines_of_older_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, ..) = spooled(dir.path());
        let text = |start: u64, end: u64, gtids: &str| {
            format!(
                "{{\"source\":\"{}\",\"file\":\"{SAMPLE_FILE}\",\"start\":{start},\"end\":{end},\"previous\":\"\",\"gtids\":\"{}:{gtids}\",\"committed\":null}}\n",
                server(),
                server()
            )
        };
        let middle = 700 + transactions(700, 1, 2).len() as u64;
        let end = 700 + transactions(700, 1, 5).len() as u64;
        std::fs::write(journal_path(&path), text(700, middle, "1-2") + &text(middle, end, "3-5")).unwrap();
        let noted = read_spool(&HostDisk, dir.path()).unwrap();
        assert_eq!(noted.damage, None);
        let bytes: Vec<u8> = noted.chunks.iter().flat_map(|left| left.bytes(&HostDisk).unwrap()).collect();
        assert_eq!(bytes, transactions(700, 1, 5));
    }
}
