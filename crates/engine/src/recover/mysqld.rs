//! Process of the recovered server: its files, start and stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_repo::Manifest;
use backstop_types::error::Result;

use super::option_file::{self, Phase};
use super::{Recovery, RecoveryDecision, RecoveryRequest, preflight};
use crate::ports::{AdminSession, MysqldStart};

/// Timeout of a start: crash recovery of a large redo log takes minutes. The server's log is shown
/// in between.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(3600);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

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

/// Starts the server unless it runs, and logs in. Called in every run until the hand-over.
pub(super) async fn start(
    recovery: &Recovery<'_>,
    manifest: &Manifest,
    decided: &RecoveryDecision,
) -> Result<Box<dyn AdminSession>> {
    let private = recovery.request.into.join(".backstop");
    let start = target_layout(&recovery.request);
    if let Some(pid) = recovery.mysqld.running_on(&start.datadir).await? {
        // Left running by a killed run. If its administrator is gone, or it listens at its service
        // address, restart it.
        let wait = recovery.mysqld.wait_ready(&start, pid, STARTUP_TIMEOUT).await;
        if wait.is_ok()
            && decided.listen.is_none()
            && let Ok(session) = recovery.admin.session(&start, &private).await
        {
            return Ok(session);
        }
        recovery.mysqld.stop(&start.datadir, SHUTDOWN_TIMEOUT).await?;
    }
    preflight::port_is_free(decided.port)?;
    // An earlier run may have written the option file for service, with which the server replicates
    // immediately.
    option_file::write(recovery, manifest, decided, Phase::Recovering).await?;
    launch(recovery).await
}

/// Starts the server with the existing option file, and logs in.
pub(super) async fn launch(recovery: &Recovery<'_>) -> Result<Box<dyn AdminSession>> {
    let private = recovery.request.into.join(".backstop");
    let mut start = target_layout(&recovery.request);
    start.args = recovery.admin.prepare(&private).await?;
    let pid = recovery.mysqld.start(&start).await?;
    recovery.mysqld.wait_ready(&start, pid, STARTUP_TIMEOUT).await?;
    recovery.admin.session(&start, &private).await
}

/// Reports that nothing is left to do, and if the recovered server still runs.
pub(super) async fn check_handed_over(recovery: &Recovery<'_>) -> Result<()> {
    let datadir = target_layout(&recovery.request).datadir;
    let now = match recovery.mysqld.running_on(&datadir).await? {
        Some(pid) => format!("its server is running, pid {pid}"),
        None => "its server is not running".to_owned(),
    };
    let dir = recovery.request.into.display();
    recovery
        .ctx
        .reporter
        .notice(&format!("the recovery in {dir} was already handed over: nothing to do; {now}"));
    Ok(())
}

/// Stops the server after a fault; its files stay for the next try.
pub(super) async fn stop_unfinished(recovery: &Recovery<'_>) {
    let datadir = target_layout(&recovery.request).datadir;
    if let Err(error) = recovery.mysqld.stop(&datadir, SHUTDOWN_TIMEOUT).await {
        recovery
            .ctx
            .reporter
            .notice(&format!("the unfinished server on {} is still running: {error}", datadir.display()));
    }
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
