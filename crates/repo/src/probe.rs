//! Finding out whether a store keeps the one condition that everything hangs on: create, never overwrite.

use backstop_model::fault::{Fault, Result};
use uuid::Uuid;

use crate::keys;
use crate::log::random;
use crate::object::ObjectKind;
use crate::shelf::{Created, Shelf};

/// Creates the same key twice. A store that accepts the second is refused.
pub(crate) async fn probe(shelf: &Shelf) -> Result<()> {
    let key = keys::probe(&Uuid::from_bytes(random()?).simple().to_string());
    let first = shelf.create(ObjectKind::Heartbeat, &key, &1).await?;
    let second = shelf.create(ObjectKind::Heartbeat, &key, &2).await;
    shelf.delete(&key).await?;
    match (first, second?) {
        (Created::Yes(_), Created::Exists) => Ok(()),
        _ => Err(Fault::refused(
            "the repository's store does not keep conditional writes: two runs could overwrite each other",
        )
        .hint("use a store that honours `If-None-Match: *` on PUT, as S3 does")),
    }
}
