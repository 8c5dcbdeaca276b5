//! Paths of a recovered server.

use std::path::{Path, PathBuf};

use super::RecoveryRequest;
use crate::ports::MysqldStart;

/// Longest path of a Unix socket on Linux, in bytes (`sun_path` without its closing zero).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Returns the paths in the target directory.
pub(super) fn target_layout(request: &RecoveryRequest) -> MysqldStart {
    let dir = std::path::absolute(&request.into).unwrap_or_else(|_| request.into.clone());
    MysqldStart {
        defaults_file: dir.join("my.cnf"),
        datadir: dir.join("data"),
        socket: socket(&dir),
        log: dir.join("mysqld.log"),
        user: request.server_user.clone(),
        args: Vec::new(),
    }
}

/// Returns the path of the client option file of a copy.
pub(super) fn client_file(request: &RecoveryRequest) -> PathBuf {
    target_layout(request).defaults_file.with_file_name("client.cnf")
}

/// Returns `DIR/mysqld.sock`, or a unique name under `/tmp` if that is longer than the path of a
/// socket can be.
fn socket(dir: &Path) -> PathBuf {
    let inside = dir.join("mysqld.sock");
    if inside.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        return inside;
    }
    let name = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    PathBuf::from(format!("/tmp/backstop-{}.sock", &name[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_path_fits_for_any_directory() {
        assert_eq!(socket(Path::new("/srv/db")), Path::new("/srv/db/mysqld.sock"));
        let deep = PathBuf::from(format!("/{}", "x".repeat(120)));
        assert!(socket(&deep).as_os_str().len() <= MAX_SOCKET_PATH_BYTES);
        assert_ne!(socket(&deep), socket(&deep.join("y")));
    }
}
