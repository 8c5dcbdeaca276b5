//! Process of the recovered server: its files, start and stop.

use std::time::Duration;

use backstop_repo::Manifest;
use backstop_types::error::Result;

use super::layout::target_layout;
use super::option_file::{self, Phase};
use super::{Recovery, RecoveryDecision, listen};
use crate::ports::AdminSession;

/// Timeout of a start: crash recovery of a large redo log takes minutes. The server's log is shown
/// in between.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(3600);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

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
    listen::port_is_free(decided.port)?;
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
