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
    let first = match shelf.create(ObjectKind::Heartbeat, &key, &1).await {
        Ok(first) => first,
        Err(fault) => return Err(why(shelf, &key, fault).await),
    };
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

/// Has the store tell what it does with a new object: writes one, looks at it and removes it.
pub(crate) async fn tell(shelf: &Shelf) -> Result<()> {
    let key = keys::probe(&Uuid::from_bytes(random()?).simple().to_string());
    shelf.put(ObjectKind::Heartbeat, &key, &1).await?;
    let looked = shelf.size(&key).await;
    shelf.delete(&key).await?;
    looked.map(drop)
}

/// A store that takes a plain write, but not one that must not overwrite, lacks something.
async fn why(shelf: &Shelf, key: &str, fault: Fault) -> Fault {
    if shelf.put(ObjectKind::Heartbeat, key, &1).await.is_err() {
        return fault;
    }
    if let Err(left) = shelf.delete(key).await {
        tracing::warn!("{left}");
    }
    let cause = fault.message;
    Fault::refused(format!("the repository's store cannot create an object without overwriting one: {cause}"))
        .hint("a file system needs hard links (FAT, and some FUSE and CIFS mounts, have none), a bucket `If-None-Match: *` on PUT: use another")
}
