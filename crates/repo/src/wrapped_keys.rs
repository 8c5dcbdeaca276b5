//! The data key of an encrypted repository, wrapped by each key of its users. Each wrapped key is
//! stored twice, under different prefixes: a rule or a slip that removes one leaves the other.

use backstop_types::error::{Error, ErrorKind, Result};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};

use crate::RepoKey;
use crate::encrypted_store::{Created, EncryptedStore};
use crate::encryption::{Cipher, DataKey, decrypt, digest, encrypt, hex};
use crate::keys::{KEYS_DIRECTORIES, wrapped_keys};
use crate::object::{ExpectedObject, ObjectError, ObjectKind};

/// Data key, wrapped by a user key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrappedKey {
    /// Nonce, ciphertext and tag, in hex.
    pub(crate) wrapped: String,
}

/// A key that opens a repository, and the stored copies of the data key that it wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCopies {
    /// Id of the user's key; discloses nothing about the key.
    pub id: String,
    /// True for the key that opened the repository.
    pub is_own: bool,
    /// Objects that hold the wrapped key.
    pub intact: Vec<String>,
    /// Objects that are missing or unusable, with the reason.
    pub lost: Vec<(String, String)>,
}

/// Returns true if a wrapped key is stored.
pub(crate) async fn has_keys(plain_store: &EncryptedStore) -> Result<bool> {
    let [first, spare] = KEYS_DIRECTORIES;
    Ok(plain_store.has_any(first).await? || plain_store.has_any(spare).await?)
}

/// Returns the data key that this key wraps, and creates it if there is none.
pub(crate) async fn new_data_key(plain_store: &EncryptedStore, key: &RepoKey) -> Result<DataKey> {
    let data = DataKey::random(plain_store.host.random.clone())?;
    let [first, spare] = wrapped_keys(&key_id(key));
    match create(plain_store, &first, key, &data).await? {
        Created::Yes(_) => create(plain_store, &spare, key, &data).await.map(|_| data),
        // Another process has just created it.
        Created::Exists => unwrap(plain_store, key).await,
    }
}

/// Stores the data key, wrapped by this key, in both places.
pub(crate) async fn add(plain_store: &EncryptedStore, key: &RepoKey, data: &DataKey) -> Result<()> {
    for place in wrapped_keys(&key_id(key)) {
        create(plain_store, &place, key, data).await?;
        // The place may hold the copy of an earlier attempt.
        let stored = unwrap_at(plain_store, &place, key).await.map_err(Error::from)?;
        if stored.expose() != data.expose() {
            return Err(ObjectError::damaged(&place, "it wraps another data key").into());
        }
    }
    Ok(())
}

/// Removes both copies of the data key that the key of this id wraps. Twice: between the two, a run
/// that uses the key may have stored the first again.
pub(crate) async fn remove(plain_store: &EncryptedStore, id: &str) -> Result<()> {
    for place in wrapped_keys(id).iter().chain(&wrapped_keys(id)) {
        plain_store.delete(place).await?;
    }
    Ok(())
}

/// Stores the missing or damaged copy of a wrapped key again, if one is left: without any, the key
/// may have been removed in the meantime. Returns the restored objects.
pub(crate) async fn mend(plain_store: &EncryptedStore, key: &RepoKey, data: &DataKey) -> Result<Vec<String>> {
    let mut mended = Vec::new();
    let places = wrapped_keys(&key_id(key));
    let [first, spare] = places.each_ref().map(|place| unwrap_at(plain_store, place, key));
    let (first, spare) = futures::join!(first, spare);
    if [&first, &spare].iter().all(|read| matches!(read, Err(ObjectError::Missing { .. }))) {
        return Ok(mended);
    }
    for (place, read) in places.into_iter().zip([first, spare]) {
        match read {
            Ok(_) => continue,
            Err(ObjectError::Store(error)) => return Err(error),
            Err(ObjectError::Missing { .. }) => _ = create(plain_store, &place, key, data).await?,
            Err(_) => _ = plain_store.put(ObjectKind::Key, &place, &wrap(plain_store, key, data)?).await?,
        }
        mended.push(place);
    }
    Ok(mended)
}

/// Returns the data key that this key wraps, from whichever copy is intact.
pub(crate) async fn unwrap(plain_store: &EncryptedStore, key: &RepoKey) -> Result<DataKey> {
    let [first, spare] = wrapped_keys(&key_id(key));
    let lost = match unwrap_at(plain_store, &first, key).await {
        Ok(data) => return Ok(data),
        Err(ObjectError::Store(error)) => return Err(error),
        Err(lost) => lost,
    };
    match unwrap_at(plain_store, &spare, key).await {
        Ok(data) => {
            tracing::warn!("{}; its copy {spare} is used", Error::from(lost));
            Ok(data)
        }
        Err(ObjectError::Store(error)) => Err(error),
        Err(ObjectError::Missing { .. }) if matches!(lost, ObjectError::Missing { .. }) => {
            let known = ids(plain_store).await?.join(", ");
            let id = key_id(key);
            Err(wrong_key(&format!(
                "the configured key (id {id}) is not one of the repository's (ids {known})"
            )))
        }
        Err(ObjectError::Missing { .. }) => Err(lost.into()),
        Err(damaged) => Err(damaged.into()),
    }
}

/// Returns the keys that open the repository, sorted by id, and their copies. Copies under the key
/// `own` are decrypted, others only read.
pub(crate) async fn copies(plain_store: &EncryptedStore, own: &RepoKey) -> Result<Vec<KeyCopies>> {
    let mut keys = Vec::new();
    for id in ids(plain_store).await? {
        let is_own = id == key_id(own);
        let (mut intact, mut lost) = (Vec::new(), Vec::new());
        for place in wrapped_keys(&id) {
            let read = match is_own {
                true => unwrap_at(plain_store, &place, own).await.map(drop),
                false => wrapped_at(plain_store, &place).await.map(drop),
            };
            match read {
                Ok(()) => intact.push(place),
                Err(ObjectError::Store(error)) => return Err(error),
                Err(error) => lost.push((place, Error::from(error).message)),
            }
        }
        keys.push(KeyCopies { id, is_own, intact, lost });
    }
    Ok(keys)
}

/// Returns the wrapped key of this id, from whichever copy can be read.
pub(crate) async fn export(plain_store: &EncryptedStore, id: &str) -> Result<WrappedKey> {
    let [first, spare] = wrapped_keys(id);
    match wrapped_at(plain_store, &first).await {
        Ok(wrapped) => Ok(wrapped),
        Err(_) => wrapped_at(plain_store, &spare).await.map_err(Error::from),
    }
}

/// Returns the data key of an exported wrapped key, if this key wraps it.
pub(crate) fn imported(plain_store: &EncryptedStore, key: &RepoKey, wrapped: &WrappedKey) -> Option<DataKey> {
    open(plain_store, key, wrapped)
}

/// Returns the error for a key that does not open the repository.
pub(crate) fn wrong_key(what: &str) -> Error {
    Error::new(ErrorKind::Usage, what)
        .hint("configure the key that this repository was created with or rewrapped for")
}

/// Returns the id of a user key, which discloses nothing about the key.
pub(crate) fn key_id(key: &RepoKey) -> String {
    hex(&digest(&blake3::derive_key("backstop v1 user key id", key.expose()))[..8])
}

/// Returns the data key of a cipher; an error if the repository is not encrypted.
pub(crate) fn data_key(cipher: &Cipher) -> Result<&DataKey> {
    match cipher {
        Cipher::Keyed(data) => Ok(data),
        Cipher::Plain => Err(Error::new(ErrorKind::Usage, "the repository is not encrypted: it has no keys")
            .hint("only a new repository can be encrypted: set `repository.encryption_key` with a new URL")),
    }
}

/// Returns the ids of all keys of which a copy is stored, sorted.
async fn ids(plain_store: &EncryptedStore) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for directory in KEYS_DIRECTORIES {
        let stored = plain_store.list(directory).await?;
        ids.extend(stored.iter().filter_map(|(key, _)| key.rsplit('/').next().map(str::to_owned)));
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

async fn create(plain_store: &EncryptedStore, place: &str, key: &RepoKey, data: &DataKey) -> Result<Created> {
    plain_store.create(ObjectKind::Key, place, &wrap(plain_store, key, data)?).await
}

fn wrap(plain_store: &EncryptedStore, key: &RepoKey, data: &DataKey) -> Result<WrappedKey> {
    let sealed = encrypt(&cipher(key), key_id(key).as_bytes(), data.expose(), &*plain_store.host.random)?;
    Ok(WrappedKey { wrapped: hex(&sealed) })
}

async fn wrapped_at(plain_store: &EncryptedStore, place: &str) -> Result<WrappedKey, ObjectError> {
    plain_store.get(ExpectedObject { kind: ObjectKind::Key, key: place, reference: None }).await
}

async fn unwrap_at(plain_store: &EncryptedStore, place: &str, key: &RepoKey) -> Result<DataKey, ObjectError> {
    let wrapped = wrapped_at(plain_store, place).await?;
    open(plain_store, key, &wrapped)
        .ok_or_else(|| ObjectError::damaged(place, "the wrapped data key cannot be decrypted"))
}

fn open(plain_store: &EncryptedStore, key: &RepoKey, wrapped: &WrappedKey) -> Option<DataKey> {
    from_hex(&wrapped.wrapped)
        .and_then(|sealed| decrypt(&cipher(key), key_id(key).as_bytes(), &sealed))
        .and_then(|data| <[u8; 32]>::try_from(data).ok())
        .map(|data| DataKey::new(data, plain_store.host.random.clone()))
}

fn cipher(key: &RepoKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&blake3::derive_key("backstop v1 wrap", key.expose()).into())
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
    use std::sync::Arc;

    use backstop_host::Host;
    use backstop_types::create_repository::CreateRepository;
    use bytes::Bytes;
    use object_store::memory::InMemory;
    use object_store::{ObjectStore, ObjectStoreExt};
    use secrecy::SecretString;

    use super::*;
    use crate::keys::path;
    use crate::{ExportedKey, Location, Repository};

    fn key(byte: &str) -> RepoKey {
        RepoKey::parse(&SecretString::from(byte.repeat(32))).unwrap()
    }

    async fn opened(store: &Arc<dyn ObjectStore>, key: &RepoKey) -> Result<Repository> {
        Repository::on(store.clone(), Some(key), Host::system()).await
    }

    async fn claim(repository: &Repository) {
        repository
            .acquire_lease(&"orders".parse().unwrap(), "backup")
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }

    /// Makes a repository with key `01`. Returns its store and the places of the wrapped key.
    async fn made() -> (Arc<dyn ObjectStore>, [String; 2]) {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        claim(&opened(&store, &key("01")).await.unwrap()).await;
        (store, wrapped_keys(&key_id(&key("01"))))
    }

    async fn intact(store: &Arc<dyn ObjectStore>, with: &RepoKey) -> Vec<(String, usize)> {
        let copies = opened(store, with).await.unwrap().key_copies().await.unwrap();
        copies.into_iter().map(|key| (key.id, key.intact.len())).collect()
    }

    #[tokio::test]
    async fn either_copy_opens_the_repository_and_the_next_lease_stores_the_other() {
        for lost in [0, 1] {
            for damaged in [false, true] {
                let (store, places) = made().await;
                let place = path(&places[lost]);
                match damaged {
                    true => _ = store.put(&place, Bytes::from_static(b"x").into()).await.unwrap(),
                    false => store.delete(&place).await.unwrap(),
                }
                let id = key_id(&key("01"));
                assert_eq!(intact(&store, &key("01")).await, [(id.clone(), 1)], "{lost} {damaged}");
                claim(&opened(&store, &key("01")).await.unwrap()).await;
                assert_eq!(intact(&store, &key("01")).await, [(id, 2)], "{lost} {damaged}");
            }
        }
    }

    /// Zeros compress to nearly nothing: an object of 10 kB that would need 4 GiB of memory.
    #[tokio::test]
    async fn object_that_grows_beyond_its_kind_is_refused() {
        let (store, places) = made().await;
        let plain_store = EncryptedStore::plain(store.clone(), Host::system());
        let mut encoder = crate::object::Encoder::new(ObjectKind::Key, &places[0], &Cipher::Plain).unwrap();
        let zeros = vec![b' '; 256 << 10];
        (0..8).for_each(|_| encoder.frame(&zeros).unwrap());
        plain_store.put_bytes(&places[0], encoder.finish().0).await.unwrap();
        let error = Error::from(wrapped_at(&plain_store, &places[0]).await.unwrap_err());
        assert!(error.kind == ErrorKind::Damaged && error.message.contains("at most 1048576"), "{error}");
        assert!(opened(&store, &key("01")).await.is_ok(), "the other copy is there");
    }

    #[tokio::test]
    async fn run_that_is_under_way_brings_no_removed_key_back() {
        let (store, _) = made().await;
        let running = opened(&store, &key("01")).await.unwrap();
        opened(&store, &key("01")).await.unwrap().rotate_key(&key("02")).await.unwrap();
        claim(&running).await;
        assert_eq!(intact(&store, &key("02")).await, [(key_id(&key("02")), 2)]);
    }

    #[tokio::test]
    async fn key_that_removes_another_stays() {
        let (store, _) = made().await;
        let first = opened(&store, &key("01")).await.unwrap();
        first.add_key(&key("02")).await.unwrap();
        first.add_key(&key("03")).await.unwrap();
        let second = opened(&store, &key("02")).await.unwrap();
        // The first key removes the second while the second removes another.
        first.remove_key(&key_id(&key("02"))).await.unwrap();
        second.remove_key(&key_id(&key("03"))).await.unwrap();
        assert!(opened(&store, &key("02")).await.is_ok());
    }

    #[tokio::test]
    async fn repository_without_any_copy_is_no_empty_place() {
        let (store, places) = made().await;
        for place in &places {
            store.delete(&path(place)).await.unwrap();
        }
        let error = opened(&store, &key("01")).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Usage, "{error}");
    }

    #[tokio::test]
    async fn several_keys_open_a_repository_until_they_are_removed() {
        let (store, _) = made().await;
        let first = opened(&store, &key("01")).await.unwrap();
        first.add_key(&key("02")).await.unwrap();
        first.add_key(&key("02")).await.unwrap();
        let (one, two) = (key_id(&key("01")), key_id(&key("02")));
        assert_eq!(first.remove_key(&one).await.unwrap_err().kind, ErrorKind::Refused, "the configured key");
        assert_eq!(first.remove_key("00ff").await.unwrap_err().kind, ErrorKind::Refused, "no such key");
        let second = opened(&store, &key("02")).await.unwrap();
        second.remove_key(&one).await.unwrap();
        assert_eq!(opened(&store, &key("01")).await.err().unwrap().kind, ErrorKind::Usage);
        assert_eq!(second.rotate_key(&key("03")).await.unwrap(), (two, key_id(&key("03"))));
        assert_eq!(intact(&store, &key("03")).await, [(key_id(&key("03")), 2)]);
        assert_eq!(opened(&store, &key("02")).await.err().unwrap().kind, ErrorKind::Usage);
    }

    #[tokio::test]
    async fn exported_key_opens_a_repository_that_has_lost_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}/repository", dir.path().display());
        let location = Location { create: CreateRepository::IfEmpty, ..Location::new(url) };
        let (repository, _) = Repository::init(&location, Some(&key("01")), Host::system()).await.unwrap();
        let export = repository.export_key().await.unwrap();
        for place in wrapped_keys(&export.key_id) {
            std::fs::remove_file(dir.path().join("repository").join(place)).unwrap();
        }
        let own = key("01");
        let open = || Repository::open(&location, Some(&own), Host::system());
        assert!(open().await.is_err());
        let import = |key: RepoKey, export: ExportedKey| {
            let location = location.clone();
            async move { Repository::import_key(&location, &key, &export, Host::system()).await }
        };
        let foreign = ExportedKey { wrapped: "00".to_owned(), ..export.clone() };
        for (key, export) in [(key("02"), export.clone()), (key("01"), foreign)] {
            assert_eq!(import(key, export).await.unwrap_err().kind, ErrorKind::Usage);
        }
        import(key("01"), export).await.unwrap();
        assert!(open().await.is_ok());
    }
}
