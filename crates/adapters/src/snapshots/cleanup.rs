//! Removes the files that runs left behind, both ended and dead ones.
//!
//! Order matters: a server that still writes into the folder is stopped before the folder is
//! removed.

use std::path::Path;
use std::time::Duration;

use backstop_engine::ports::{MysqldControl, Snapshot};
use backstop_types::error::{Error, Result};
use backstop_types::ids::BackupId;

use super::{SnapshotSource, clone_recovery, snapshot_dir, subvolume, work_dir};
use crate::mysql::connection::Connection;
use crate::mysql::error::SqlCause;

/// Limit for a killed CLONE statement to end.
const CLONE_KILL_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit for a copy to shut down; it is killed afterwards, since its data is discarded.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Removes everything that dead runs left in the site's work directory, and stops servers and CLONE
/// statements that still work for them. Returns the runs. Leaves alone the runs whose process
/// lives.
///
/// # Errors
/// Returns an error that names the run if something cannot be removed.
pub async fn clear_dead_runs(source: &SnapshotSource) -> Result<Vec<BackupId>> {
    let mut cleared = Vec::new();
    for run in work_dir::list(&source.place.work_dir)?.into_iter().filter(work_dir::is_dead) {
        let released = release(source, &run).await;
        released.map_err(|error| error.during(format!("cannot clear dead run {}", run.run)))?;
        cleared.push(run.run);
    }
    Ok(cleared)
}

/// Removes the files of one run.
///
/// # Errors
/// Returns an error if something cannot be removed.
pub async fn release(source: &SnapshotSource, run: &Snapshot) -> Result<()> {
    stop_clone(source, run).await?;
    remove_local(source.place.servers.as_ref(), run).await
}

/// Stops the run's copy, if its server runs on that very folder, and removes the folder.
async fn remove_local(servers: &dyn MysqldControl, run: &Snapshot) -> Result<()> {
    let datadir = clone_recovery::datadir(&run.path);
    if datadir.exists() {
        servers.stop(&datadir, SHUTDOWN_TIMEOUT).await?;
    }
    if let Some(image) = snapshot_dir::dir_of(&run.path)? {
        subvolume::delete(&image).await?;
    }
    work_dir::remove(&run.path).await
}

/// Kills the run's CLONE statement on the source and waits until it has ended. A source that does
/// not exist any more runs no CLONE.
async fn stop_clone(source: &SnapshotSource, run: &Snapshot) -> Result<()> {
    let datadir = clone_recovery::datadir(&run.path);
    let mut session = match source.connector.connect(&source.endpoint).await {
        Ok(session) => session,
        Err(error) if matches!(error.cause, SqlCause::Unreachable(_)) => return Ok(()),
        Err(error) => {
            return Err(Error::from(error).during(format!("cannot end the CLONE into {}", datadir.display())));
        }
    };
    let ended = end_clone(source, &mut session, &datadir).await;
    session.close().await;
    ended
}

async fn end_clone(source: &SnapshotSource, session: &mut Connection, datadir: &Path) -> Result<()> {
    let begin = source.ctx.host.clock.monotonic();
    loop {
        let clones = clones_into(session, datadir).await?;
        if clones.is_empty() {
            return Ok(());
        }
        for id in clones {
            // Error 1094 means that the statement has ended in between, which is fine.
            match session.run(&format!("KILL {id}")).await {
                Err(error) if error.code() != Some(1094) => return Err(error.into()),
                _ => {}
            }
        }
        if source.ctx.host.clock.monotonic() - begin > CLONE_KILL_TIMEOUT {
            let message = format!("cannot end the CLONE into {}: it is still running", datadir.display());
            return Err(Error::failed(message).hint("check the source's process list"));
        }
        source.ctx.host.clock.sleep(POLL_INTERVAL).await;
    }
}

async fn clones_into(session: &mut Connection, datadir: &Path) -> Result<Vec<u64>> {
    let rows: Vec<(u64, Option<String>)> = session
        .query(
            "SELECT PROCESSLIST_ID, PROCESSLIST_INFO FROM performance_schema.threads \
             WHERE PROCESSLIST_INFO LIKE 'CLONE LOCAL %' AND PROCESSLIST_ID IS NOT NULL",
        )
        .await?;
    let name = datadir.to_string_lossy();
    let ours =
        rows.into_iter().filter(|(_, info)| info.as_deref().is_some_and(|info| info.contains(name.as_ref())));
    Ok(ours.map(|(id, _)| id).collect())
}
