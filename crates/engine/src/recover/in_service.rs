//! Puts the server in service, the last step before the hand-over: writes its option file for
//! service, and proves that it works with it.

use std::time::Duration;

use backstop_policy::plan::Ending;
use backstop_repo::Manifest;
use backstop_types::error::{Error, ErrorKind, Result};

use super::option_file::{self, Phase};
use super::{Recovery, RecoveryDecision, join, layout, listen, mysqld};
use crate::ports::{AdminSession, ReadOnly};

/// Timeout of an orderly shutdown, which writes out the buffer pool.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(600);

/// Writes the option file of the server in service. A server that does not listen on loopback is
/// restarted with it, once. It must then hold every transaction, and replicate if it is a replica.
pub(super) async fn put_in_service(
    recovery: &Recovery<'_>,
    manifest: &Manifest,
    decided: &RecoveryDecision,
    mut session: Box<dyn AdminSession>,
) -> Result<Box<dyn AdminSession>> {
    // The server accepts writes only after all that can fail, so that it never does after a
    // failure.
    option_file::write(recovery, manifest, decided, Phase::Serving(ReadOnly::Super)).await?;
    let Some(listen) = &decided.listen else { return Ok(session) };
    let held = session.gtid_executed().await?;
    drop(session);
    let start = layout::target_layout(&recovery.request);
    recovery.mysqld.stop(&start.datadir, SHUTDOWN_TIMEOUT).await?;
    listen::can_listen(listen, decided.port)?;
    let mut session = mysqld::launch(recovery).await.map_err(|error| {
        error.during(format_args!("cannot restart the server to listen on {listen}, port {}", decided.port))
    })?;
    let lost = held.subtract(&session.gtid_executed().await?);
    if !lost.is_empty() {
        let message = format!("cannot restart the server: it lost transactions `{lost}`");
        return Err(Error::new(ErrorKind::Damaged, message).hint("check its error log, and report this"));
    }
    if decided.ending == Ending::Join {
        join::catch_up(recovery, &mut *session).await?;
    }
    Ok(session)
}
