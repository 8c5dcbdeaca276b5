//! Which transactions of a spooled segment are safe on this host's disk: what was acknowledged from there must reach the archive
//! whatever happens to the archiver.
//!
//! Beside each file of the spool `FILE.pieces` has one JSON object a line, a piece each, in order.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use backstop_binlog::Segment;
use backstop_model::fault::{Context, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::queue::{At, Piece};

#[derive(Serialize, Deserialize)]
struct Line {
    source: ServerUuid,
    file: String,
    start: u64,
    end: u64,
    previous: GtidSet,
    gtids: GtidSet,
    committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// The journal of a file of the spool.
pub(super) fn path_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pieces");
    name.into()
}

/// Makes a file's bytes durable and then notes its pieces; returns when both are.
pub(super) fn sync(path: &Path, at: &At, pieces: &[Piece]) -> Result<()> {
    let doing = format!("write the spool {}", path.display());
    File::open(path).failed(&doing)?.sync_data().failed(&doing)?;
    let journal = path_of(path);
    let is_new = !journal.exists();
    let mut file = File::options().create(true).append(true).open(&journal).failed(&doing)?;
    for piece in pieces {
        let line = Line {
            source: at.source,
            file: at.file.clone(),
            start: piece.start,
            end: piece.end,
            previous: piece.previous.clone(),
            gtids: piece.gtids.clone(),
            committed: piece.committed,
        };
        let text = serde_json::to_string(&line).failed(&doing)?;
        file.write_all(format!("{text}\n").as_bytes()).failed(&doing)?;
    }
    file.sync_data().failed(&doing)?;
    if let (true, Some(dir)) = (is_new, path.parent()) {
        File::open(dir).failed(&doing)?.sync_all().failed(&doing)?;
    }
    Ok(())
}

/// A piece that a killed archiver left, with its bytes.
pub(super) struct Left {
    pub(super) segment: Segment,
    path: PathBuf,
    skip: u64,
}

impl Left {
    /// Its bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let doing = format!("read the spool {}", self.path.display());
        let mut bytes = vec![0; usize::try_from(self.segment.size()).unwrap_or(usize::MAX)];
        File::open(&self.path).failed(&doing)?.read_exact_at(&mut bytes, self.skip).failed(&doing)?;
        Ok(bytes)
    }
}

/// Every piece that was noted in a folder, by server, file and offset. A line that was torn was not acknowledged.
pub(super) fn left(dir: &Path) -> Result<Vec<Left>> {
    let mut all = Vec::new();
    for path in files(dir)? {
        if path.extension().is_none_or(|end| end != "pieces") {
            continue;
        }
        let data = path.with_extension("");
        let text = std::fs::read_to_string(&path).failed(format!("read {}", path.display()))?;
        let lines: Vec<Line> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
        let Some(begin) = lines.first().map(|line| line.start) else { continue };
        for line in lines {
            let skip = line.start - begin;
            let mut left = Left {
                segment: Segment {
                    source: line.source,
                    file: line.file,
                    start: line.start,
                    end: line.end,
                    previous: line.previous,
                    gtids: line.gtids,
                    committed: line.committed,
                    hash: [0; 32],
                },
                path: data.clone(),
                skip,
            };
            left.segment.hash = *blake3::hash(&left.bytes()?).as_bytes();
            all.push(left);
        }
    }
    all.sort_by(|a, b| {
        let key = |left: &Left| (left.segment.source, left.segment.file.clone(), left.segment.start);
        key(a).cmp(&key(b))
    });
    Ok(all)
}

/// Removes everything from the spool.
pub(super) fn clear(dir: &Path) -> Result<()> {
    for path in files(dir)? {
        std::fs::remove_file(&path).failed(format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let doing = format!("read the spool {}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.failed(&doing)?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).failed(&doing)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn piece(start: u64, end: u64, gtids: &str) -> Piece {
        let gtids = gtids.replace('A', "aaaaaaaa-0000-4000-8000-000000000000").parse().unwrap();
        Piece { end, gtids, ..Piece::begin(start, GtidSet::new()) }
    }

    #[test]
    fn what_was_acknowledged_is_found_and_what_was_torn_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("u.binlog.000007.000000000004");
        std::fs::write(&path, b"onetwothr").unwrap();
        let source = "aaaaaaaa-0000-4000-8000-000000000000".parse().unwrap();
        let at = At { source, file: "binlog.000007".to_owned(), offset: 10 };
        sync(&path, &at, &[piece(4, 7, "A:1")]).unwrap();
        sync(&path, &at, &[piece(7, 10, "A:2-3")]).unwrap();
        let mut torn = File::options().append(true).open(path_of(&path)).unwrap();
        torn.write_all(b"{\"source\":").unwrap();

        let left = left(dir.path()).unwrap();
        let bytes: Vec<Vec<u8>> = left.iter().map(|left| left.bytes().unwrap()).collect();
        assert_eq!(bytes, [b"one", b"two"]);
        assert_eq!(left.iter().map(|left| left.segment.gtids.count()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(left[1].segment.hash, *blake3::hash(b"two").as_bytes());
        assert_eq!((left[1].segment.start, left[1].segment.end), (7, 10));

        clear(dir.path()).unwrap();
        assert!(super::left(dir.path()).unwrap().is_empty());
        assert!(super::left(&dir.path().join("nowhere")).unwrap().is_empty());
    }
}
