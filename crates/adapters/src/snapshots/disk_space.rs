//! Checks the space for local artefacts, and the server's write access to them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backstop_types::finding::Finding;

use super::donor::Donor;

/// Returns the bytes that a directory tree takes on disk. Entries that cannot be read count as
/// zero.
pub fn tree_size(dir: &Path) -> u64 {
    let mut total = 0;
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                todo.push(entry.path());
            } else {
                total += metadata.blocks() * 512;
            }
        }
    }
    total
}

/// Checks that the file system of `work_dir` has room for `need` bytes.
pub fn check_space(work_dir: &Path, need: u64) -> Finding {
    let place = existing(work_dir);
    let Ok(stat) = rustix::fs::statvfs(&place) else {
        return Finding::problem(
            "no-space",
            format!("the free space at {} is unknown", place.display()),
            "check whether its file system is mounted",
        );
    };
    let free = stat.f_bavail * stat.f_frsize;
    let what = format!(
        "a snapshot needs about {} in {}, and {} are free",
        mebibytes(need),
        work_dir.display(),
        mebibytes(free)
    );
    if free < need {
        let todo = "free space there, or set snapshot.work_dir to another file system";
        return Finding::problem("no-space", what, todo);
    }
    Finding::ok("space", what)
}

/// Reports a reason for which the server's user cannot write below `work_dir`, if one exists.
pub fn check_reachable(work_dir: &Path, donor: &Donor) -> Option<Finding> {
    let me = rustix::process::geteuid();
    if !me.is_root() && me.as_raw() != donor.uid {
        return Some(Finding::problem(
            "work-dir-not-writable",
            format!("the server runs as user {} and Backstop as user {}", donor.uid, me.as_raw()),
            "run Backstop as root or as the user that the server runs as",
        ));
    }
    if donor.uid == 0 {
        return None;
    }
    let place = existing(work_dir);
    let blocked = place.ancestors().find(|dir| !may_pass(dir, donor))?;
    Some(Finding::problem(
        "work-dir-not-writable",
        format!(
            "the server's user {} cannot reach {}: it has no access to {}",
            donor.uid,
            work_dir.display(),
            blocked.display()
        ),
        format!("run `chmod o+x {}`, or set snapshot.work_dir", blocked.display()),
    ))
}

fn may_pass(dir: &Path, donor: &Donor) -> bool {
    let Ok(metadata) = std::fs::metadata(dir) else { return false };
    let bit = match () {
        () if metadata.uid() == donor.uid => 0o100,
        () if metadata.gid() == donor.gid => 0o010,
        () => 0o001,
    };
    metadata.mode() & bit != 0
}

/// Returns the directory or, if it does not exist, the nearest one above it that does.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
