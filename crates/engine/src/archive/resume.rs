//! Before the first round: what an archiver that was killed left is archived, and what cannot be right is refused.

use backstop_binlog::Segment;
use backstop_model::fault::{Fault, Result};
use backstop_model::settings::ArchiveAck;

use super::{Archiving, journal};

/// Archives what a killed archiver had acknowledged from its spool, and makes segments of the tail it left.
pub(super) async fn left_behind(a: &Archiving<'_>) -> Result<()> {
    let (held, last) = a.store.held().await;
    for left in journal::left(&a.spool)? {
        let piece = &left.segment;
        let behind = |last: &Segment| (last.file.as_str(), last.end) <= (piece.file.as_str(), piece.start);
        let missing = !held.as_ref().is_some_and(|held| piece.gtids.is_subset_of(held));
        if missing && last.iter().find(|last| last.source == piece.source).is_none_or(behind) {
            a.store.put_tail(piece, &left.bytes()?).await?;
        } else if missing {
            return Err(Fault::failed(format!(
                "archive what is in the spool {}: transactions {} were acknowledged and do not fit the archive",
                a.spool.display(),
                piece.gtids
            ))
            .hint("move the spool away to go on without them; it can be read with mysqlbinlog"));
        }
    }
    a.store.seal_tail().await?;
    journal::clear(&a.spool)
}

/// A spool on the source's own disk is lost with it.
pub(super) async fn refuse_spool_beside_the_source(a: &Archiving<'_>) -> Result<()> {
    if !(a.settings.semi_sync && a.settings.ack == ArchiveAck::Spool) {
        return Ok(());
    }
    let members = a.world.unless_stopped(a.topology.look()).await?;
    for member in &members {
        if is_here(&member.endpoint.host).await {
            return Err(Fault::refused(format!(
                "acknowledge from the spool: {} is on this machine, and the spool would be lost with it",
                member.endpoint
            ))
            .hint("run the archiver on a machine of its own, or set archive.ack = \"store\""));
        }
    }
    Ok(())
}

/// True if a host is this machine: one of its addresses can be listened on.
async fn is_here(host: &str) -> bool {
    let Ok(addresses) = tokio::net::lookup_host((host, 0)).await else { return false };
    for address in addresses {
        if tokio::net::TcpListener::bind(address).await.is_ok() {
            return true;
        }
    }
    false
}
