//! Header object of a repository.

use std::sync::Arc;

use backstop_types::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::RepoKey;
use crate::encrypted_store::EncryptedStore;
use crate::encryption::{Cipher, hex};
use crate::keys::{HEADER_KEY, SHARDS_DIRECTORY};
use crate::object::{ExpectedObject, ObjectError, ObjectKind};
use crate::required_versions::{self, Access, RequiredVersions};
use crate::wrapped_keys::{has_keys, new_data_key, unwrap, wrong_key};

/// The object `backstop`: created once, with the repository. If two processes with different keys
/// create a repository at the same time, both try to create it; one of them finds that it already
/// exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeaderObject {
    /// Unique id of the repository.
    pub(crate) repository: Uuid,
    /// Id of the data key that everything is encrypted with; `None` for an unencrypted repository.
    pub(crate) data_key: Option<String>,
    /// Versions that may use the repository. Absent: any version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) needs: Option<RequiredVersions>,
}

/// State of a repository when it is opened.
pub(crate) enum RepoHeader {
    /// The repository exists. Its id is unknown if only the root object is lost.
    Sealed(Cipher, Option<Uuid>),
    /// Nothing is stored yet.
    Nothing,
}

/// Reads how the repository is encrypted, and unwraps the data key.
///
/// This function and the others here need a store that does not encrypt.
pub(crate) async fn read_header(plain_store: &EncryptedStore, key: Option<&RepoKey>) -> Result<RepoHeader> {
    let (root, raised) =
        futures::join!(read_root(plain_store), required_versions::raised_versions(plain_store));
    let asked = raised?.or_else(|| root.as_ref().ok().and_then(|root| root.needs.clone()));
    required_versions::require_access(asked.as_ref(), Access::Read)?;
    let encrypted = match &root {
        Ok(root) => root.data_key.is_some(),
        Err(ObjectError::Store(error)) => return Err(error.clone()),
        Err(ObjectError::Missing { .. })
            if !plain_store.has_any(SHARDS_DIRECTORY).await? && !has_keys(plain_store).await? =>
        {
            return Ok(RepoHeader::Nothing);
        }
        // Reading continues without it: the presence of wrapped keys shows as well that the
        // repository is encrypted.
        Err(error) => {
            tracing::warn!("{}", Error::from(error.clone()));
            has_keys(plain_store).await?
        }
    };
    let id = root.as_ref().ok().map(|root| root.repository);
    match (encrypted, key) {
        (false, None) => Ok(RepoHeader::Sealed(Cipher::Plain, id)),
        (true, Some(key)) => {
            let data = unwrap(plain_store, key).await?;
            let named = root.ok().and_then(|root| root.data_key);
            let cipher = Cipher::Keyed(Arc::new(data));
            if named.is_some_and(|named| named != hex(&cipher.key_id())) {
                return Err(wrong_key("the key wraps a data key that is not the repository's"));
            }
            Ok(RepoHeader::Sealed(cipher, id))
        }
        (true, None) => {
            Err(Error::new(ErrorKind::Usage, "the repository is encrypted, and no key is configured")
                .hint("set `repository.encryption_key`"))
        }
        (false, Some(_)) => {
            Err(Error::new(ErrorKind::Usage, "a key is configured, but the repository is not encrypted")
                .hint("remove `repository.encryption_key`, or use a new URL for an encrypted repository"))
        }
    }
}

/// Creates an empty repository, or finds that another process has just created it.
pub(crate) async fn create_header(
    plain_store: &EncryptedStore,
    key: Option<&RepoKey>,
) -> Result<(Cipher, Option<Uuid>)> {
    let cipher = match key {
        None => Cipher::Plain,
        Some(key) => Cipher::Keyed(Arc::new(new_data_key(plain_store, key).await?)),
    };
    write_root(plain_store, &cipher).await?;
    match read_header(plain_store, key).await? {
        RepoHeader::Sealed(cipher, id) => Ok((cipher, id)),
        RepoHeader::Nothing => {
            Err(Error::new(ErrorKind::Store, format!("cannot write {HEADER_KEY}: the store did not keep it")))
        }
    }
}

/// Returns the id of a repository that this program may write to.
pub(crate) async fn require_writable(plain_store: &EncryptedStore) -> Result<Uuid> {
    let (root, raised) =
        futures::join!(read_root(plain_store), required_versions::raised_versions(plain_store));
    let root = root?;
    required_versions::require_access(raised?.as_ref().or(root.needs.as_ref()), Access::Write)?;
    Ok(root.repository)
}

/// Returns the id of the repository that the root object names.
pub(crate) async fn repository_id(plain_store: &EncryptedStore) -> Result<Uuid, ObjectError> {
    read_root(plain_store).await.map(|root| root.repository)
}

/// Returns the id of the data key that the root object names; `None` if the root object is lost.
pub(crate) async fn data_key_id(plain_store: &EncryptedStore) -> Result<Option<String>> {
    match read_root(plain_store).await {
        Ok(HeaderObject { data_key: Some(id), .. }) => Ok(Some(id)),
        Ok(HeaderObject { data_key: None, .. }) => {
            Err(Error::new(ErrorKind::Usage, "the repository is not encrypted: it has no keys"))
        }
        Err(ObjectError::Store(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

async fn read_root(plain_store: &EncryptedStore) -> Result<HeaderObject, ObjectError> {
    plain_store.get(ExpectedObject { kind: ObjectKind::Root, key: HEADER_KEY, reference: None }).await
}

async fn write_root(plain_store: &EncryptedStore, cipher: &Cipher) -> Result<()> {
    let data_key = cipher.is_keyed().then(|| hex(&cipher.key_id()));
    let root = HeaderObject {
        repository: plain_store.random_id()?,
        data_key,
        needs: Some(RequiredVersions::default()),
    };
    plain_store.create(ObjectKind::Root, HEADER_KEY, &root).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_host::Host;
    use object_store::ObjectStore;
    use object_store::memory::InMemory;

    use super::*;
    use crate::Repository;

    fn plain(store: &Arc<dyn ObjectStore>) -> EncryptedStore {
        EncryptedStore::plain(store.clone(), Host::system())
    }

    fn asks(read: &str, write: &str) -> RequiredVersions {
        RequiredVersions { read: read.to_owned(), write: write.to_owned() }
    }

    async fn claims(store: &Arc<dyn ObjectStore>) -> Result<()> {
        let repository = Repository::on(store.clone(), None, Host::system()).await?;
        repository.acquire_lease(&"orders".parse().unwrap(), "backup").await?.release().await
    }

    #[tokio::test]
    async fn root_that_requires_a_newer_program_is_refused() {
        for (needs, reads) in [(asks("0.1.0", "99.0.0"), true), (asks("99.0.0", "99.0.0"), false)] {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let root = HeaderObject { repository: Uuid::nil(), data_key: None, needs: Some(needs) };
            plain(&store).create(ObjectKind::Root, HEADER_KEY, &root).await.unwrap();
            assert_eq!(Repository::on(store.clone(), None, Host::system()).await.is_ok(), reads);
            let error = claims(&store).await.unwrap_err();
            assert!(error.kind == ErrorKind::Refused && error.message.contains("99.0.0"), "{error}");
            assert!(!plain(&store).has_any(SHARDS_DIRECTORY).await.unwrap(), "nothing was written");
        }
    }

    #[tokio::test]
    async fn later_requirement_applies_to_an_open_repository() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        claims(&store).await.unwrap();
        let open = Repository::on(store.clone(), None, Host::system()).await.unwrap();
        let key = format!("{}/{:020}", crate::keys::REQUIRED_VERSIONS_DIRECTORY, 1);
        plain(&store).create(ObjectKind::Root, &key, &asks("0.1.0", "99.0.0")).await.unwrap();
        let error = claims(&store).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        let error = open.acquire_lease(&"orders".parse().unwrap(), "prune").await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        let key = format!("{}/{:020}", crate::keys::REQUIRED_VERSIONS_DIRECTORY, 2);
        plain(&store).create(ObjectKind::Root, &key, &asks("0.1.0", "0.1.0")).await.unwrap();
        claims(&store).await.unwrap();
    }
}
