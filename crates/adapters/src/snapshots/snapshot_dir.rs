//! Path of a snapshot, on the file system of the subvolume. The run's folder records it, in
//! `volume`, before the snapshot is made.

use std::path::{Path, PathBuf};

use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::ids::BackupId;

use super::subvolume::Subvolume;

const LOCATION_FILE: &str = "volume";
const SNAPSHOT_NAME: &str = "image";

/// Chooses the path of the run's snapshot and records it: in the run's folder if that is on the
/// same file system, else beside the subvolume, else in it (as a nested subvolume it is in no later
/// snapshot).
pub(super) fn choose_dir(subvolume: &Subvolume, run: &BackupId, run_dir: &Path) -> Result<PathBuf> {
    let name = format!(".backstop-{run}");
    let beside = subvolume.root.parent().map(|dir| (dir.to_owned(), name.clone()));
    let places = [(run_dir.to_owned(), SNAPSHOT_NAME.to_owned())].into_iter().chain(beside);
    let places = places.chain([(subvolume.root.clone(), name)]);
    let mounts = Mounts::read()?;
    let file_system = mounts.file_system_of(&subvolume.root);
    let fits = |dir: &Path| mounts.file_system_of(dir) == file_system && file_system.is_some();
    let chosen = places.into_iter().find(|(dir, _)| fits(dir)).map(|(dir, name)| dir.join(name));
    let chosen = chosen.ok_or_else(|| {
        Error::failed(format!(
            "cannot find a directory for a snapshot of {}: it is not mounted",
            subvolume.root.display()
        ))
    })?;
    let note = run_dir.join(LOCATION_FILE);
    std::fs::write(&note, chosen.to_string_lossy().as_bytes())
        .failed(format!("cannot write {}", note.display()))?;
    Ok(chosen)
}

/// Returns the recorded path of the run's snapshot, if the run has one. The snapshot may not exist
/// yet.
pub(super) fn dir_of(run_dir: &Path) -> Result<Option<PathBuf>> {
    let note = run_dir.join(LOCATION_FILE);
    match std::fs::read_to_string(&note) {
        Ok(text) => Ok(Some(PathBuf::from(text)).filter(|path| is_ours(path))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).failed(format!("cannot read {}", note.display())),
    }
}

/// Returns true if the name is one of Backstop's. A record that a crash truncated does not have
/// such a name, and nothing has been made then.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let run = name.strip_prefix(".backstop-").and_then(|run| run.parse::<BackupId>().ok());
    name == SNAPSHOT_NAME || run.is_some()
}

/// Mounts of this process: mount point and number of the file system. A btrfs file system has one
/// number for all its mounts and subvolumes here, unlike in `st_dev`.
struct Mounts(Vec<(PathBuf, String)>);

impl Mounts {
    fn read() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).failed(format!("cannot read {path}"))?;
        let parse = |line: &str| {
            let mut fields = line.split(' ');
            let number = fields.nth(2)?;
            Some((PathBuf::from(unescape(fields.nth(1)?)), number.to_owned()))
        };
        Ok(Self(text.lines().filter_map(parse).collect()))
    }

    /// Returns the number of a path's file system: of the deepest mount point, and of several
    /// mounts on one point the last.
    fn file_system_of(&self, path: &Path) -> Option<&str> {
        let path = std::fs::canonicalize(path).ok()?;
        let over = self.0.iter().filter(|(point, _)| path.starts_with(point));
        over.max_by_key(|(point, _)| point.as_os_str().len()).map(|(_, number)| number.as_str())
    }
}

/// Decodes spaces and similar characters, which are written as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push_str(&rest[..at]);
        let Some(code) = code else {
            plain.push('\\');
            rest = &rest[at + 1..];
            continue;
        };
        plain.push(char::from(code));
        rest = &rest[at + 4..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/a\9"), r"/a\9");
    }
}
