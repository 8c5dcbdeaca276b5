//! Before the first round: what an archiver that was killed left is archived.

use backstop_binlog::Segment;
use backstop_model::fault::{Fault, Result};

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
