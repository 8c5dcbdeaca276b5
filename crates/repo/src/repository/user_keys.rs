//! The keys that open an encrypted repository.

use backstop_host::Host;
use backstop_types::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Repository;
use crate::encrypted_store::EncryptedStore;
use crate::encryption::{Cipher, DataKey};
use crate::keys::SHARDS_DIRECTORY;
use crate::wrapped_keys::{self, KeyCopies, WrappedKey};
use crate::{Location, RepoKey, backend, repo_header};

/// A wrapped data key outside of its repository. It is useless without the user's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedKey {
    /// Id of the repository; `None`: its root object was lost.
    pub repository: Option<Uuid>,
    /// Id of the user's key.
    pub key_id: String,
    /// Nonce, ciphertext and tag of the data key, in hex.
    pub wrapped: String,
}

impl Repository {
    /// Returns the keys that open the repository, with the state of their stored copies.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] if the repository is not encrypted; the store's error.
    pub async fn key_copies(&self) -> Result<Vec<KeyCopies>> {
        let (_, own) = self.opened_with(&self.cipher())?;
        wrapped_keys::copies(&self.plain(), &own).await
    }

    /// Lets another key open this repository.
    ///
    /// # Errors
    /// As [`Repository::key_copies`], and [`ErrorKind::Damaged`] if an object of this key's id wraps
    /// another data key.
    pub async fn add_key(&self, new: &RepoKey) -> Result<String> {
        let cipher = self.cipher();
        let (data, _) = self.opened_with(&cipher)?;
        wrapped_keys::add(&self.plain(), new, data).await?;
        Ok(wrapped_keys::key_id(new))
    }

    /// Removes the copies of a key, which then no longer opens the repository.
    ///
    /// # Errors
    /// As [`Repository::key_copies`]; [`ErrorKind::Refused`] for the key that opened the repository,
    /// and for an id that it does not have.
    pub async fn remove_key(&self, id: &str) -> Result<()> {
        let known = self.key_copies().await?;
        let Some(key) = known.iter().find(|key| key.id == id) else {
            let ids: Vec<_> = known.iter().map(|key| key.id.as_str()).collect();
            return Err(Error::refused(format!("the repository has no key {id}, but {}", ids.join(", ")))
                .hint("`backstop key check` lists the keys"));
        };
        if key.is_own {
            return Err(Error::refused(format!("key {id} is the configured one, with which this command works"))
                .hint("configure another key of the repository first, or replace this one with `backstop key rotate`"));
        }
        wrapped_keys::remove(&self.plain(), id).await?;
        // The other key may have removed this one at the same time: one of them must stay.
        let cipher = self.cipher();
        let (data, own) = self.opened_with(&cipher)?;
        wrapped_keys::add(&self.plain(), &own, data).await
    }

    /// Lets a new key open this repository instead of the one that opened it. The stored data does
    /// not change. Returns the ids of the removed and the new key.
    ///
    /// # Errors
    /// As [`Repository::add_key`].
    pub async fn rotate_key(&self, new: &RepoKey) -> Result<(String, String)> {
        let (_, own) = self.opened_with(&self.cipher())?;
        let (old, id) = (wrapped_keys::key_id(&own), self.add_key(new).await?);
        if old != id {
            wrapped_keys::remove(&self.plain(), &old).await?;
        }
        Ok((old, id))
    }

    /// Returns the wrapped data key, to be kept outside of the repository.
    ///
    /// # Errors
    /// As [`Repository::key_copies`].
    pub async fn export_key(&self) -> Result<ExportedKey> {
        let (_, own) = self.opened_with(&self.cipher())?;
        let key_id = wrapped_keys::key_id(&own);
        let WrappedKey { wrapped } = wrapped_keys::export(&self.plain(), &key_id).await?;
        Ok(ExportedKey { repository: self.id(), key_id, wrapped })
    }

    /// Stores both copies of an exported key again, for a repository that has lost them and that no
    /// key opens therefore. `key` must be the one that was exported.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] if the export is of another key or repository, or is malformed;
    /// the store's error.
    pub async fn import_key(
        location: &Location,
        key: &RepoKey,
        export: &ExportedKey,
        host: Host,
    ) -> Result<()> {
        let store = backend::connect(location, &host)?.store;
        let plain_store = EncryptedStore::plain(store, host);
        let named = repo_header::data_key_id(&plain_store).await?;
        if named.is_none() && !plain_store.has_any(SHARDS_DIRECTORY).await? {
            return Err(Error::new(ErrorKind::NotRecoverable, "the repository does not exist")
                .hint("correct `repository.url`"));
        }
        let wrapped = WrappedKey { wrapped: export.wrapped.clone() };
        let Some(data) = wrapped_keys::imported(&plain_store, key, &wrapped) else {
            let own = wrapped_keys::key_id(key);
            return Err(wrapped_keys::wrong_key(&format!(
                "the export is of key {}, and does not open with the configured key (id {own})",
                export.key_id
            )));
        };
        if named.is_some_and(|named| named != data.id()) {
            return Err(Error::new(ErrorKind::Usage, "the export is of another repository"));
        }
        wrapped_keys::add(&plain_store, key, &data).await
    }

    /// Stores the missing copies of the key that opened the repository. A fault is reported and does
    /// not stop the caller, which needs one copy only.
    pub(super) async fn mend_wrapped_key(&self, cipher: &Cipher) {
        let (Cipher::Keyed(data), Some(key)) = (cipher, &self.shared.key) else { return };
        match wrapped_keys::mend(&self.plain(), key, data).await {
            Ok(mended) => mended.iter().for_each(|object| tracing::warn!("{object} was lost; stored again")),
            Err(error) => {
                tracing::warn!("{}", error.during("cannot store the lost copies of the wrapped key"))
            }
        }
    }

    /// Returns the data key, and the user's key that unwrapped it.
    fn opened_with<'a>(&self, cipher: &'a Option<Cipher>) -> Result<(&'a DataKey, RepoKey)> {
        let absent = || {
            Error::new(ErrorKind::NotRecoverable, "the repository does not exist").hint("run `backstop init`")
        };
        let data = wrapped_keys::data_key(cipher.as_ref().ok_or_else(absent)?)?;
        let own =
            self.shared.key.clone().ok_or_else(|| Error::new(ErrorKind::Usage, "no key is configured"))?;
        Ok((data, own))
    }
}
