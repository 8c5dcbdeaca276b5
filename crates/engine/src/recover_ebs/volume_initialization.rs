//! How far the volumes have been filled from their snapshots.

use std::time::Duration;

use backstop_model::progress::{Progress, ProgressUnit};

use super::{CreatedInstance, EbsRecovery, Result, VolumeInitialization};

/// How often it is asked.
const VOLUME_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long volumes that are being loaded are waited for. The server works meanwhile.
const VOLUME_INITIALIZATION_TIMEOUT: Duration = Duration::from_secs(1800);

/// Waits, within the bound, until every block is there. Volumes that nobody loads are not waited for, and what cannot be
/// asked does not spoil a server that has joined.
pub(super) async fn wait_until_initialized(
    recovery: &EbsRecovery<'_>,
    made: &CreatedInstance,
) -> Result<VolumeInitialization> {
    let begun = recovery.ctx.clock.monotonic();
    loop {
        let loading = match recovery.hosts.volume_initialization(&made.volume_ids).await {
            Ok(loading) => loading,
            Err(error) => {
                recovery
                    .ctx
                    .reporter
                    .notice(&format!("how far the volumes are loaded is not known: {error}"));
                return Ok(VolumeInitialization::WhenRead);
            }
        };
        let VolumeInitialization::Percent(percent) = loading else { return Ok(loading) };
        recovery.ctx.reporter.progress(Progress {
            done: percent.into(),
            total: Some(100),
            unit: ProgressUnit::Percent,
        });
        if recovery.ctx.clock.monotonic() - begun >= VOLUME_INITIALIZATION_TIMEOUT {
            return Ok(loading);
        }
        recovery.ctx.clock.sleep(VOLUME_POLL_INTERVAL).await;
    }
}
