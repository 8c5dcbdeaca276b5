//! The last step before the hand-over: the option file that the server has in service, and the proof that it works with it.

use std::time::Duration;

use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::plan::Ending;
use backstop_repo::Manifest;

use super::option_file::{self, Phase};
use super::{Recovery, RecoveryDecision, join, mysqld, preflight};
use crate::ports::{AdminSession, ReadOnly};

/// An orderly shutdown writes the buffer pool out.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(600);

/// Writes the option file of the server in service. One that listens elsewhere than on loopback is restarted with it, once, and must
/// come back as it was: with every transaction, and as a replica that replicates.
pub(super) async fn put_in_service(
    recovery: &Recovery<'_>,
    manifest: &Manifest,
    decided: &RecoveryDecision,
    mut session: Box<dyn AdminSession>,
) -> Result<Box<dyn AdminSession>> {
    // It takes writes after all that can fail, so that it does not do so after a failure either.
    option_file::write(recovery, manifest, decided, Phase::Serving(ReadOnly::Super)).await?;
    let Some(listen) = &decided.listen else { return Ok(session) };
    let held = session.gtid_executed().await?;
    drop(session);
    let start = mysqld::target_layout(&recovery.request);
    recovery.mysqld.stop(&start.datadir, SHUTDOWN_TIMEOUT).await?;
    preflight::can_listen(listen, decided.port)?;
    let mut session = mysqld::launch(recovery).await.map_err(|error| {
        error.during(format_args!("restart the server to listen on {listen}, port {}", decided.port))
    })?;
    let lost = held.subtract(&session.gtid_executed().await?);
    if !lost.is_empty() {
        let message = format!("restart the server: it holds less than before, it lacks `{lost}`");
        return Err(Error::new(ErrorKind::Damaged, message).hint("look at its log, and report this one"));
    }
    if decided.ending == Ending::Join {
        join::catch_up(recovery, &mut *session).await?;
    }
    Ok(session)
}
