//! What kind of repository it is, and the data key of an encrypted one.

use std::sync::Arc;

use backstop_model::fault::{Fault, Kind, Result};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::RepoKey;
use crate::keys::{KEYS, ROOT, SHARDS, wrapped_key};
use crate::log::random;
use crate::needs::{self, Needs, Use};
use crate::object::{Expected, ObjectFault, ObjectKind};
use crate::seal::{DataKey, Seal, decrypt, digest, encrypt, hex};
use crate::shelf::{Created, Shelf};

/// The object `backstop`: created once, when the repository is made. Two who make it with different keys would
/// both create it; one of them finds that it has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Root {
    /// Tells repositories apart.
    pub(crate) repository: Uuid,
    /// The data key that everything is sealed with; `None` for a plain repository.
    pub(crate) data_key: Option<String>,
    /// Who may use it. Absent: any version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) needs: Option<Needs>,
}

/// A data key, wrapped by a key of the user's.
#[derive(Serialize, Deserialize)]
pub(crate) struct Wrapped {
    /// Nonce, ciphertext and tag, in hex.
    pub(crate) wrapped: String,
}

/// What is known when a repository is opened.
pub(crate) enum Kept {
    /// It exists. Its id is not known where only the root object is lost.
    Sealed(Seal, Option<Uuid>),
    /// Nothing is stored yet.
    Nothing,
}

/// Finds out how the repository is sealed and opens the seal.
pub(crate) async fn look(store: &Arc<dyn ObjectStore>, key: Option<&RepoKey>) -> Result<Kept> {
    let shelf = plain(store);
    let (root, raised) = futures::join!(read_root(&shelf), needs::raised(&shelf));
    let asked = raised?.or_else(|| root.as_ref().ok().and_then(|root| root.needs.clone()));
    needs::admit(asked.as_ref(), Use::Read)?;
    let encrypted = match &root {
        Ok(root) => root.data_key.is_some(),
        Err(ObjectFault::Store(fault)) => return Err(fault.clone()),
        Err(ObjectFault::Missing { .. }) if !shelf.has_any(SHARDS).await? && !shelf.has_any(KEYS).await? => {
            return Ok(Kept::Nothing);
        }
        // Reading goes on without it: whether there are wrapped keys tells as much.
        Err(fault) => {
            tracing::warn!("{}", Fault::from(fault.clone()));
            shelf.has_any(KEYS).await?
        }
    };
    let id = root.as_ref().ok().map(|root| root.repository);
    match (encrypted, key) {
        (false, None) => Ok(Kept::Sealed(Seal::Plain, id)),
        (true, Some(key)) => {
            let data = unwrap(&shelf, key).await?;
            let named = root.ok().and_then(|root| root.data_key);
            let seal = Seal::Keyed(Arc::new(data));
            if named.is_some_and(|named| named != hex(&seal.key_id())) {
                return Err(wrong_key("the key wraps another data key than the repository's"));
            }
            Ok(Kept::Sealed(seal, id))
        }
        (true, None) => Err(Fault::new(Kind::Usage, "the repository is encrypted, and no key is configured")
            .hint("set `repository.encryption_key`")),
        (false, Some(_)) => {
            Err(Fault::new(Kind::Usage, "a key is configured, but the repository is not encrypted").hint(
                "remove `repository.encryption_key`, or use an empty place for an encrypted repository",
            ))
        }
    }
}

/// Makes an empty repository, or finds that another has just made it.
pub(crate) async fn make(
    store: &Arc<dyn ObjectStore>,
    key: Option<&RepoKey>,
) -> Result<(Seal, Option<Uuid>)> {
    let shelf = plain(store);
    let seal = match key {
        None => Seal::Plain,
        Some(key) => Seal::Keyed(Arc::new(new_data_key(&shelf, key).await?)),
    };
    write_root(&shelf, &seal).await?;
    match look(store, key).await? {
        Kept::Sealed(seal, id) => Ok((seal, id)),
        Kept::Nothing => Err(Fault::new(Kind::Store, format!("write {ROOT}: the store did not keep it"))),
    }
}

/// Wraps the data key with another key of the user's, then removes the wrapping by the old one.
pub(crate) async fn rewrap(
    store: &Arc<dyn ObjectStore>,
    seal: &Seal,
    old: &RepoKey,
    new: &RepoKey,
) -> Result<()> {
    let Seal::Keyed(data) = seal else {
        return Err(Fault::new(Kind::Usage, "the repository is not encrypted: there is no key to change"));
    };
    let shelf = plain(store);
    wrap(&shelf, new, data).await?;
    unwrap(&shelf, new).await?;
    if key_id(old) != key_id(new) {
        shelf.delete(&wrapped_key(&key_id(old))).await?;
    }
    Ok(())
}

/// The id of a repository that this program may write to.
pub(crate) async fn writable(store: &Arc<dyn ObjectStore>) -> Result<Uuid> {
    let shelf = plain(store);
    let (root, raised) = futures::join!(read_root(&shelf), needs::raised(&shelf));
    let root = root?;
    needs::admit(raised?.as_ref().or(root.needs.as_ref()), Use::Write)?;
    Ok(root.repository)
}

/// The id of the repository that the root object names.
pub(crate) async fn id(store: &Arc<dyn ObjectStore>) -> Result<Uuid, ObjectFault> {
    read_root(&plain(store)).await.map(|root| root.repository)
}

fn plain(store: &Arc<dyn ObjectStore>) -> Shelf {
    Shelf { store: store.clone(), seal: Seal::Plain }
}

async fn read_root(shelf: &Shelf) -> Result<Root, ObjectFault> {
    shelf.get(Expected { kind: ObjectKind::Root, key: ROOT, reference: None }).await
}

async fn write_root(shelf: &Shelf, seal: &Seal) -> Result<()> {
    let data_key = seal.is_keyed().then(|| hex(&seal.key_id()));
    let root = Root { repository: Uuid::from_bytes(random()?), data_key, needs: Some(Needs::default()) };
    shelf.create(ObjectKind::Root, ROOT, &root).await.map(|_| ())
}

/// The data key that this key wraps, made if there is none.
async fn new_data_key(shelf: &Shelf, key: &RepoKey) -> Result<DataKey> {
    let data = DataKey::random()?;
    match wrap(shelf, key, &data).await? {
        Created::Yes(_) => Ok(data),
        Created::Exists => unwrap(shelf, key).await,
    }
}

async fn wrap(shelf: &Shelf, key: &RepoKey, data: &DataKey) -> Result<Created> {
    let id = key_id(key);
    let wrapped = Wrapped { wrapped: hex(&encrypt(&cipher(key), id.as_bytes(), data.expose())?) };
    shelf.create(ObjectKind::Key, &wrapped_key(&id), &wrapped).await
}

async fn unwrap(shelf: &Shelf, key: &RepoKey) -> Result<DataKey> {
    let id = key_id(key);
    let object = wrapped_key(&id);
    let expected = Expected { kind: ObjectKind::Key, key: &object, reference: None };
    let wrapped: Wrapped = match shelf.get(expected).await {
        Ok(wrapped) => wrapped,
        Err(ObjectFault::Missing { .. }) => {
            let known = shelf.list(KEYS).await?;
            let known: Vec<_> = known.iter().filter_map(|(key, _)| key.rsplit('/').next()).collect();
            let what = format!(
                "the configured key (id {id}) is none of the repository's (ids {})",
                known.join(", ")
            );
            return Err(wrong_key(&what));
        }
        Err(fault) => return Err(fault.into()),
    };
    from_hex(&wrapped.wrapped)
        .and_then(|sealed| decrypt(&cipher(key), id.as_bytes(), &sealed))
        .and_then(|data| <[u8; 32]>::try_from(data).ok())
        .map(DataKey::new)
        .ok_or_else(|| ObjectFault::damaged(&object, "the wrapped data key does not open").into())
}

fn wrong_key(what: &str) -> Fault {
    Fault::new(Kind::Usage, what)
        .hint("configure the key that this repository was made with, or rewrapped for")
}

fn cipher(key: &RepoKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&blake3::derive_key("backstop v1 wrap", key.expose()).into())
}

/// Names a user's key without telling anything of it.
fn key_id(key: &RepoKey) -> String {
    hex(&digest(&blake3::derive_key("backstop v1 user key id", key.expose()))[..8])
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::memory::InMemory;

    use super::*;
    use crate::Repository;

    fn asks(read: &str, write: &str) -> Needs {
        Needs { read: read.to_owned(), write: write.to_owned() }
    }

    async fn claims(store: &Arc<dyn ObjectStore>) -> Result<()> {
        let repository = Repository::on(store.clone(), None).await?;
        repository.claim(&"orders".parse().unwrap(), "backup").await?.release().await
    }

    #[tokio::test]
    async fn a_root_that_asks_for_a_newer_program_is_refused() {
        for (needs, reads) in [(asks("0.1.0", "99.0.0"), true), (asks("99.0.0", "99.0.0"), false)] {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let root = Root { repository: Uuid::nil(), data_key: None, needs: Some(needs) };
            plain(&store).create(ObjectKind::Root, ROOT, &root).await.unwrap();
            assert_eq!(Repository::on(store.clone(), None).await.is_ok(), reads);
            let fault = claims(&store).await.unwrap_err();
            assert!(fault.kind == Kind::Refused && fault.message.contains("99.0.0"), "{fault}");
            assert!(!plain(&store).has_any(SHARDS).await.unwrap(), "nothing was written");
        }
    }

    #[tokio::test]
    async fn what_is_asked_for_later_counts_also_for_a_repository_that_is_open() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        claims(&store).await.unwrap();
        let open = Repository::on(store.clone(), None).await.unwrap();
        let key = format!("{}/{:020}", crate::keys::NEEDS, 1);
        plain(&store).create(ObjectKind::Root, &key, &asks("0.1.0", "99.0.0")).await.unwrap();
        let fault = claims(&store).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Refused, "{fault}");
        let fault = open.claim(&"orders".parse().unwrap(), "prune").await.err().unwrap();
        assert_eq!(fault.kind, Kind::Refused, "{fault}");
        let key = format!("{}/{:020}", crate::keys::NEEDS, 2);
        plain(&store).create(ObjectKind::Root, &key, &asks("0.1.0", "0.1.0")).await.unwrap();
        claims(&store).await.unwrap();
    }
}
