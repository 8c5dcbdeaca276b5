//! How far the volumes have been filled from their snapshots.

use std::time::Duration;

use backstop_model::progress::{Progress, Unit};

use super::{Loading, Made, Rebuild, Result};

/// How often it is asked.
const POLL: Duration = Duration::from_secs(5);
/// How long volumes that are being loaded are waited for. The server works meanwhile.
const BOUND: Duration = Duration::from_secs(1800);

/// Waits, within the bound, until every block is there. Volumes that nobody loads are not waited for, and what cannot be
/// asked does not spoil a server that has joined.
pub(super) async fn loaded(r: &Rebuild<'_>, made: &Made) -> Result<Loading> {
    let begun = r.world.clock.monotonic();
    loop {
        let loading = match r.hosts.loading(&made.volume_ids).await {
            Ok(loading) => loading,
            Err(fault) => {
                r.world.reporter.notice(&format!("how far the volumes are loaded is not known: {fault}"));
                return Ok(Loading::WhenRead);
            }
        };
        let Loading::Percent(percent) = loading else { return Ok(loading) };
        r.world.reporter.progress(Progress { done: percent.into(), total: Some(100), unit: Unit::Percent });
        if r.world.clock.monotonic() - begun >= BOUND {
            return Ok(loading);
        }
        r.world.clock.sleep(POLL).await;
    }
}
