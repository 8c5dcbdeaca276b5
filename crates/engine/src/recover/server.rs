//! The recovered server's process: where its files are, start, stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_model::fault::Result;
use backstop_repo::Manifest;

use super::configure::{self, Phase};
use super::{Decided, Recover, RecoverRequest, guard};
use crate::ports::{RecoveredSession, ServerStart};

/// Crash recovery of a large redo log takes minutes; what the server's log says of it is shown meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(3600);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Longest path of a Unix socket on Linux, in bytes (`sun_path` without its closing zero).
const LONGEST_SOCKET: usize = 107;

/// Where everything is in the target directory.
pub(super) fn layout(request: &RecoverRequest) -> ServerStart {
    let dir = std::path::absolute(&request.into).unwrap_or_else(|_| request.into.clone());
    ServerStart {
        defaults_file: dir.join("my.cnf"),
        datadir: dir.join("data"),
        socket: socket(&dir),
        log: dir.join("mysqld.log"),
        user: request.server_user.clone(),
        args: Vec::new(),
    }
}

/// The option file for clients of a copy.
pub(super) fn client_file(request: &RecoverRequest) -> PathBuf {
    layout(request).defaults_file.with_file_name("client.cnf")
}

/// `DIR/mysqld.sock`, or a name of its own under `/tmp` if that is longer than a socket's path can be.
fn socket(dir: &Path) -> PathBuf {
    let inside = dir.join("mysqld.sock");
    if inside.as_os_str().len() <= LONGEST_SOCKET {
        return inside;
    }
    let name = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    PathBuf::from(format!("/tmp/backstop-{}.sock", &name[..16]))
}

/// Starts the server if it does not run yet, and logs in. Called on every run until the hand-over.
pub(super) async fn start(
    r: &Recover<'_>,
    manifest: &Manifest,
    decided: &Decided,
) -> Result<Box<dyn RecoveredSession>> {
    let private = r.request.into.join(".backstop");
    let start = layout(&r.request);
    if let Some(pid) = r.programs.running_on(&start.datadir).await? {
        // A run that was killed left it. Its administrator may be gone already, or it listens where it will serve: then it is restarted.
        let wait = r.programs.wait_ready(&start, pid, START_DEADLINE).await;
        if wait.is_ok()
            && decided.listen.is_none()
            && let Ok(session) = r.servers.session(&start, &private).await
        {
            return Ok(session);
        }
        r.programs.stop(&start.datadir, STOP_DEADLINE).await?;
    }
    guard::port_is_free(decided.port)?;
    // An earlier run may have written the file of the server in service, which replicates at once.
    configure::write(r, manifest, decided, Phase::Recovering).await?;
    launch(r).await
}

/// Starts the server with the option file that is there, and logs in.
pub(super) async fn launch(r: &Recover<'_>) -> Result<Box<dyn RecoveredSession>> {
    let private = r.request.into.join(".backstop");
    let mut start = layout(&r.request);
    start.args = r.servers.prepare(&private).await?;
    let pid = r.programs.start(&start).await?;
    r.programs.wait_ready(&start, pid, START_DEADLINE).await?;
    r.servers.session(&start, &private).await
}

/// Says that there is nothing left to do, and whether what was recovered still runs.
pub(super) async fn handed_over(r: &Recover<'_>) -> Result<()> {
    let datadir = layout(&r.request).datadir;
    let now = match r.programs.running_on(&datadir).await? {
        Some(pid) => format!("its server runs, pid {pid}"),
        None => "its server does not run now".to_owned(),
    };
    let dir = r.request.into.display();
    r.world
        .reporter
        .notice(&format!("the recovery in {dir} was handed over before: nothing was done; {now}"));
    Ok(())
}

/// After a fault nothing is left running; what was written stays, for the next try.
pub(super) async fn stop_unfinished(r: &Recover<'_>) {
    let datadir = layout(&r.request).datadir;
    if let Err(fault) = r.programs.stop(&datadir, STOP_DEADLINE).await {
        r.world
            .reporter
            .notice(&format!("the unfinished server on {} still runs: {fault}", datadir.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_always_fits() {
        assert_eq!(socket(Path::new("/srv/db")), Path::new("/srv/db/mysqld.sock"));
        let deep = PathBuf::from(format!("/{}", "x".repeat(120)));
        assert!(socket(&deep).as_os_str().len() <= LONGEST_SOCKET);
        assert_ne!(socket(&deep), socket(&deep.join("y")));
    }
}
