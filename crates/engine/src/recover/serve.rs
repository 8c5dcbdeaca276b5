//! The last step before the hand-over: the option file that the server has in service, and the proof that it works with it.

use std::time::Duration;

use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::plan::Ending;
use backstop_repo::Manifest;

use super::configure::{self, Phase};
use super::{Decided, Recover, guard, join, server};
use crate::ports::{ReadOnly, RecoveredSession};

/// An orderly shutdown writes the buffer pool out.
const STOP_DEADLINE: Duration = Duration::from_secs(600);

/// Writes the option file of the server in service. One that listens elsewhere than on loopback is restarted with it, once, and must
/// come back as it was: with every transaction, and as a replica that replicates.
pub(super) async fn serve(
    r: &Recover<'_>,
    manifest: &Manifest,
    decided: &Decided,
    mut session: Box<dyn RecoveredSession>,
) -> Result<Box<dyn RecoveredSession>> {
    // It takes writes after all that can fail, so that it does not do so after a failure either.
    configure::write(r, manifest, decided, Phase::Serving(ReadOnly::Super)).await?;
    let Some(listen) = &decided.listen else { return Ok(session) };
    let held = session.gtid_executed().await?;
    drop(session);
    let start = server::layout(&r.request);
    r.programs.stop(&start.datadir, STOP_DEADLINE).await?;
    guard::can_listen(listen, decided.port)?;
    let mut session = server::launch(r).await.map_err(|fault| {
        fault.during(format_args!("restart the server to listen on {listen}, port {}", decided.port))
    })?;
    let lost = held.subtract(&session.gtid_executed().await?);
    if !lost.is_empty() {
        let message = format!("restart the server: it holds less than before, it lacks `{lost}`");
        return Err(Fault::new(Kind::Damaged, message).hint("look at its log, and report this one"));
    }
    if decided.ending == Ending::Join {
        join::catch_up(r, &mut *session).await?;
    }
    Ok(session)
}
