//! Volumes of a backup, mounted on this host where the source had them.

use std::path::{Path, PathBuf};

use backstop_policy::carried_settings::{DataFolder, data_folders};
use backstop_repo::Manifest;
use backstop_types::error::{Error, Result};

use super::{DataSource, RecoveryRequest};

/// Checks that the volumes of a backup are mounted, and that the folders outside the data directory
/// in which the source had data files are on them. Returns these folders, without symbolic links.
/// In every run: the server must not start on a bare mount point, where its crash recovery would
/// lack the redo log or the binary logs, and change the data.
pub(super) fn folders_on_volumes(request: &RecoveryRequest, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let DataSource::Volumes { others } = &request.data else { return Ok(Vec::new()) };
    let mut mounted = Vec::new();
    for mount in others {
        let place = mount.canonicalize().ok().filter(|place| is_mount_point(place));
        mounted.push(place.ok_or_else(|| {
            Error::refused(format!("nothing is mounted at {} (--volume-at)", mount.display()))
                .hint("mount the volume of the backup where the source had it (docs/aws.md)")
        })?);
    }
    folders_below(&data_folders(&manifest.facts.settings), &mounted)
}

/// True if a file system is mounted at this path, which has no symbolic links.
fn is_mount_point(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Spaces, tabs, line feeds and backslashes are octal there (proc_pid_mountinfo(5)).
    let octal = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let plain = |field: &str| octal.iter().fold(field.to_owned(), |text, (from, to)| text.replace(from, to));
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|field| Path::new(&plain(field)) == path)
}

/// Returns the folders without symbolic links. Their paths are data of the repository, and the
/// recovery gives them to the server's user: so they must be below these mount points.
fn folders_below(folders: &[DataFolder], mounted: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for DataFolder { variable, path } in folders {
        let (shown, place) = (path.display(), path.canonicalize().unwrap_or_else(|_| path.clone()));
        if !mounted.iter().any(|mount| place.starts_with(mount)) {
            return Err(Error::refused(format!(
                "the backup has data files in {shown} ({variable}), which is on no volume that you named"
            ))
            .hint(format!(
                "mount the volume of the backup where the source had it, and name its mount point with `--volume-at` (such as `--volume-at {shown}`)"
            )));
        }
        if !place.is_dir() {
            return Err(Error::refused(format!(
                "the backup has data files in {shown} ({variable}), which does not exist"
            ))
            .hint("mount the volume of the backup where the source had it (docs/aws.md)"));
        }
        found.push(place);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn data_folders_must_be_below_named_mount_points() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let folder = |path: PathBuf| [DataFolder { variable: "innodb_log_group_home_dir", path }];
        let below = |path: &Path, mounted: &[PathBuf]| folders_below(&folder(path.to_owned()), mounted);
        let redo = base.join("redo");
        for mounted in [vec![], vec!["/somewhere".into()], vec![base.join("re")]] {
            let error = below(&redo, &mounted).unwrap_err();
            assert!(error.message.contains("on no volume that you named"), "{error}");
        }
        assert!(below(&redo, std::slice::from_ref(&redo)).unwrap_err().message.contains("does not exist"));
        std::fs::create_dir(&redo).unwrap();
        assert_eq!(below(&redo, std::slice::from_ref(&base)).unwrap(), std::slice::from_ref(&redo));
        std::os::unix::fs::symlink("/etc", redo.join("x")).unwrap();
        let error = below(&redo.join("x/ssl"), &[redo]).unwrap_err();
        assert!(error.message.contains("on no volume that you named"), "a link leads out: {error}");
        assert!(folders_below(&[], &[]).unwrap().is_empty());
        assert!(is_mount_point(Path::new("/proc")) && !is_mount_point(&base));
    }
}
