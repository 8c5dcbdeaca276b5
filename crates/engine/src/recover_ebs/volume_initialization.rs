//! Waits for the initialization of volumes from their snapshots.

use std::time::Duration;

use backstop_types::progress::{Progress, ProgressUnit};

use super::{CreatedInstance, EbsRecovery, Result, VolumeInitialization};

/// Interval at which the progress is polled.
const VOLUME_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for volumes that are being loaded. The server works during that time.
const VOLUME_INITIALIZATION_TIMEOUT: Duration = Duration::from_secs(1800);

/// Waits, within the time limit, until all blocks are loaded. Does not wait for volumes that are
/// loaded lazily. If the progress cannot be read, the joined server is still a success.
pub(super) async fn wait_until_initialized(
    recovery: &EbsRecovery<'_>,
    made: &CreatedInstance,
) -> Result<VolumeInitialization> {
    let begun = recovery.ctx.host.clock.monotonic();
    loop {
        let loading = match recovery.infrastructure.volume_initialization(&made.volume_ids).await {
            Ok(loading) => loading,
            Err(error) => {
                recovery
                    .ctx
                    .reporter
                    .notice(&format!("the initialization progress of the volumes is unknown: {error}"));
                return Ok(VolumeInitialization::WhenRead);
            }
        };
        let VolumeInitialization::Percent(percent) = loading else { return Ok(loading) };
        recovery.ctx.reporter.progress(Progress {
            done: percent.into(),
            total: Some(100),
            unit: ProgressUnit::Percent,
        });
        if recovery.ctx.host.clock.monotonic() - begun >= VOLUME_INITIALIZATION_TIMEOUT {
            return Ok(loading);
        }
        recovery.ctx.host.clock.sleep(VOLUME_POLL_INTERVAL).await;
    }
}
