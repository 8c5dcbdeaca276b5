//! Temporary folders for tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// Returns a folder that every user can enter: in the usual place if its parents let others
/// through, else in one that does.
pub fn for_all_users() -> TempDir {
    let usual = std::env::temp_dir();
    let places = [usual.as_path(), Path::new("/tmp"), Path::new("/var/tmp"), Path::new("/dev/shm")];
    let place = places.into_iter().find(|place| lets_others_through(place)).expect("a place for all users");
    let folder = tempfile::tempdir_in(place).expect("create a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("open it to all");
    folder
}

fn lets_others_through(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().all(|part| part.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
}
