//! Btrfs subvolumes, through the `btrfs` program and the file system's attributes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backstop_engine::ports::ChangedFiles;
use backstop_types::error::{Error, Result, ResultExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::command;

/// `f_type` of btrfs.
const BTRFS_MAGIC: u64 = 0x9123_683e;
/// Inode number of every subvolume's root.
const ROOT_INODE: u64 = 256;
const BTRFS_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit for listing changes, which reads metadata only; a large volume has much of it.
const LIST_CHANGES_TIMEOUT: Duration = Duration::from_secs(900);
/// Limit for changed ranges. More are not worth listing: everything is read instead (and memory
/// stays bounded).
const MAX_CHANGED_RANGES: usize = 2_000_000;
/// Extended attribute of a subvolume's root that holds the marks of the newest snapshots, separated
/// by spaces.
pub(super) const MARKS_XATTR: &str = "trusted.backstop";
/// Number of marks that are kept.
const MAX_MARKS: usize = 16;

/// A subvolume that contains a given path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subvolume {
    /// Root directory.
    pub root: PathBuf,
}

/// Identity of a subvolume, from the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubvolumeIdentity {
    /// UUID of the subvolume.
    pub uuid: String,
    /// UUID of the subvolume of which this is a snapshot.
    pub parent_uuid: Option<String>,
    /// Transaction that last changed the subvolume. Of a read-only snapshot: the one that made it.
    pub generation: u64,
}

impl Subvolume {
    /// Returns the subvolume that contains this path, if it is on btrfs.
    ///
    /// # Errors
    /// Returns an error if the path cannot be inspected.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        let doing = format!("cannot inspect {}", path.display());
        let path = std::fs::canonicalize(path).failed(&doing)?;
        let stat = rustix::fs::statfs(&path).failed(&doing)?;
        if u64::try_from(stat.f_type).ok() != Some(BTRFS_MAGIC) {
            return Ok(None);
        }
        let device = std::fs::metadata(&path).failed(&doing)?.dev();
        let root = path.ancestors().find(|dir| {
            std::fs::metadata(dir).is_ok_and(|found| found.ino() == ROOT_INODE && found.dev() == device)
        });
        Ok(root.map(|root| Self { root: root.to_owned() }))
    }

    /// Returns true if the path is in this subvolume, and not in one nested in it or mounted over
    /// it.
    pub fn holds(&self, path: &Path) -> bool {
        // A log's base name is no file, so the check uses its folder.
        let existing = path.ancestors().find(|path| path.exists()).unwrap_or(path);
        Self::of(existing).is_ok_and(|found| found.as_ref() == Some(self))
    }

    /// Returns the path that a path of this subvolume has in a snapshot of it.
    pub fn in_snapshot(&self, path: &Path, snapshot: &Path) -> Option<PathBuf> {
        Some(snapshot.join(path.strip_prefix(&self.root).ok()?))
    }

    /// Writes all data that the operating system still buffers to disk, so that the snapshot takes
    /// little time.
    pub async fn sync(&self) -> Result<()> {
        let root = self.root.clone();
        let doing = format!("cannot sync {}", root.display());
        let synced = tokio::task::spawn_blocking(move || {
            let dir = std::fs::File::open(root)?;
            rustix::fs::syncfs(&dir).map_err(std::io::Error::from)
        });
        synced.await.failed(&doing)?.failed(doing)
    }

    /// Makes a read-only snapshot of the subvolume.
    pub async fn snapshot(&self, to: &Path) -> Result<()> {
        let mut btrfs = Command::new("btrfs");
        btrfs.args(["subvolume", "snapshot", "-r", "--"]).arg(&self.root).arg(to);
        let doing = format!("cannot snapshot {}", self.root.display());
        command::output(&mut btrfs, BTRFS_TIMEOUT, &doing).await.map(drop)
    }

    /// Adds a mark to the subvolume, and removes the oldest beyond sixteen. The mark is part of
    /// every later snapshot.
    pub fn add_mark(&self, mark: &str) -> Result<()> {
        let mut marks = marks(&self.root)?;
        marks.push(mark.to_owned());
        let kept = marks[marks.len().saturating_sub(MAX_MARKS)..].join(" ");
        let doing = format!("cannot mark {}", self.root.display());
        rustix::fs::setxattr(&self.root, MARKS_XATTR, kept.as_bytes(), rustix::fs::XattrFlags::empty())
            .failed(doing)
    }
}

/// Returns the marks of a subvolume or snapshot, the newest last.
pub fn marks(root: &Path) -> Result<Vec<String>> {
    let mut value = [0; 4096];
    match rustix::fs::getxattr(root, MARKS_XATTR, &mut value) {
        Ok(length) => {
            let text = String::from_utf8_lossy(&value[..length]).into_owned();
            Ok(text.split_whitespace().map(str::to_owned).collect())
        }
        Err(rustix::io::Errno::NODATA) => Ok(Vec::new()),
        Err(error) => Err(error).failed(format!("cannot read the marks of {}", root.display())),
    }
}

/// Reads the identity of a subvolume from the file system.
pub async fn identity(root: &Path) -> Result<SubvolumeIdentity> {
    let mut btrfs = Command::new("btrfs");
    btrfs.args(["subvolume", "show", "--"]).arg(root);
    let doing = format!("cannot inspect subvolume {}", root.display());
    let text = command::output(&mut btrfs, BTRFS_TIMEOUT, &doing).await?;
    parse_identity(&text).ok_or_else(|| Error::failed(format!("{doing}: its description is unreadable")))
}

fn parse_identity(text: &str) -> Option<SubvolumeIdentity> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().to_owned()).filter(|value| value != "-")
    };
    Some(SubvolumeIdentity {
        uuid: field("UUID")?,
        parent_uuid: field("Parent UUID"),
        generation: field("Generation")?.parse().ok()?,
    })
}

/// Deletes a snapshot. A missing one is no error.
pub async fn delete(snapshot: &Path) -> Result<()> {
    let doing = format!("cannot delete snapshot {}", snapshot.display());
    match std::fs::symlink_metadata(snapshot) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).failed(doing),
        Ok(found) if !found.is_dir() || found.ino() != ROOT_INODE => {
            return Err(Error::failed(format!("{doing}: it is not a subvolume")));
        }
        Ok(_) => {}
    }
    let mut btrfs = Command::new("btrfs");
    btrfs.args(["subvolume", "delete", "--"]).arg(snapshot);
    command::output(&mut btrfs, BTRFS_TIMEOUT, &doing).await.map(drop)
}

/// Returns the byte ranges of each file (by inode) that were written in generation `since` or
/// later; `None` if there are too many to list.
pub async fn written_since(snapshot: &Path, since: u64) -> Result<Option<ChangedFiles>> {
    let doing = format!("cannot list the changes in {}", snapshot.display());
    let listed = tokio::time::timeout(LIST_CHANGES_TIMEOUT, list(snapshot, since, &doing)).await;
    listed.map_err(|_| Error::failed(format!("{doing}: timed out after {LIST_CHANGES_TIMEOUT:?}")))?
}

async fn list(snapshot: &Path, since: u64, doing: &str) -> Result<Option<ChangedFiles>> {
    let mut btrfs = Command::new("btrfs");
    btrfs.args(["subvolume", "find-new", "--"]).arg(snapshot).arg(since.to_string());
    btrfs.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = btrfs.spawn().failed(doing)?;
    let output = child.stdout.take().ok_or_else(|| Error::failed(format!("{doing}: it has no output")))?;
    // File names may contain any bytes, including line feeds. Lines are therefore read as bytes,
    // and a line that is no entry is an error only if it could be one.
    let mut lines = BufReader::new(output).split(b'\n');
    let mut changed: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
    let mut ranges = 0;
    while let Some(line) = lines.next_segment().await.failed(doing)? {
        let line = String::from_utf8_lossy(&line);
        if !line.starts_with("inode ") {
            continue;
        }
        let Some((inode, range)) = parse_range(&line) else {
            return Err(Error::failed(format!("{doing}: cannot parse `{line}`")));
        };
        ranges += 1;
        if ranges > MAX_CHANGED_RANGES {
            return Ok(None);
        }
        add(changed.entry(inode).or_default(), range);
    }
    let status = child.wait().await.failed(doing)?;
    if status.success() { Ok(Some(changed)) } else { Err(Error::failed(format!("{doing}: {status}"))) }
}

/// Parses `inode 258 file offset 81920 len 16384 disk start …`.
fn parse_range(line: &str) -> Option<(u64, Range<u64>)> {
    let words: Vec<_> = line.split(' ').take(7).collect();
    let ["inode", inode, "file", "offset", start, "len", length] = words[..] else { return None };
    let start: u64 = start.parse().ok()?;
    Some((inode.parse().ok()?, start..start.checked_add(length.parse().ok()?)?))
}

/// Adds a range. Extents of a file are listed in the order of their offsets.
fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end >= range.start && last.start <= range.start => {
            last.end = last.end.max(range.end)
        }
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn output_of_btrfs_is_parsed() {
        let text = "s2\n\tName: \t\t\ts2\n\tUUID: \t\t\tcd9f8324-e018-324f-8130-b53eaba3bdfe\n\
                    \tParent UUID: \t\t-\n\tGeneration: \t\t8\n\tGen at creation: \t7\n";
        let identity = parse_identity(text).unwrap();
        assert_eq!((identity.generation, identity.parent_uuid), (8, None));
        let line =
            "inode 258 file offset 81920 len 16384 disk start 63963136 offset 0 gen 8 flags NONE data/f g";
        assert_eq!(parse_range(line), Some((258, 81_920..98_304)));
        assert_eq!(parse_range("inode 258 file offset x len 1"), None);
    }

    #[test]
    fn adjacent_ranges_are_merged() {
        let mut ranges = Vec::new();
        for range in [0..5, 5..9, 20..30, 25..40, 3..4] {
            add(&mut ranges, range);
        }
        assert_eq!(ranges, [0..9, 20..40, 3..4]);
    }
}
