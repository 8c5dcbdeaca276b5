//! Checks that a store honours the one condition that everything depends on: create, never
//! overwrite.

use backstop_types::error::{Error, Result};

use crate::encrypted_store::{Created, EncryptedStore};
use crate::keys;
use crate::object::ObjectKind;

/// Creates the same key twice. Refuses a store that accepts the second put.
pub(crate) async fn probe_conditional_put(store: &EncryptedStore) -> Result<()> {
    let key = keys::probe(&store.random_id()?.simple().to_string());
    let first = match store.create(ObjectKind::Heartbeat, &key, &1).await {
        Ok(first) => first,
        Err(error) => return Err(explain_refusal(store, &key, error).await),
    };
    let second = store.create(ObjectKind::Heartbeat, &key, &2).await;
    store.delete(&key).await?;
    match (first, second?) {
        (Created::Yes(_), Created::Exists) => Ok(()),
        _ => Err(Error::refused(
            "the repository's store ignores conditions on writes: two runs could overwrite each other",
        )
        .hint("use a store that honours `If-None-Match: *` on PUT, as S3 does")),
    }
}

/// Writes an object, reads its metadata and removes it, so that the answers show the store's
/// retention mode.
pub(crate) async fn probe_object_lock(store: &EncryptedStore) -> Result<()> {
    let key = keys::probe(&store.random_id()?.simple().to_string());
    store.put(ObjectKind::Heartbeat, &key, &1).await?;
    let looked = store.size(&key).await;
    store.delete(&key).await?;
    looked.map(drop)
}

/// Explains the refusal of a store that accepts a plain write, but not one that must not overwrite.
async fn explain_refusal(store: &EncryptedStore, key: &str, error: Error) -> Error {
    if store.put(ObjectKind::Heartbeat, key, &1).await.is_err() {
        return error;
    }
    if let Err(left) = store.delete(key).await {
        tracing::warn!("{left}");
    }
    let cause = error.message;
    Error::refused(format!("the repository's store cannot create an object without overwriting one: {cause}"))
        .hint("use a file system with hard links (FAT and some FUSE and CIFS mounts have none), or a bucket that honours `If-None-Match: *` on PUT")
}
