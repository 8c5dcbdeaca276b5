//! Object store with transparent encryption.

use std::sync::Arc;
use std::time::Duration;

use backstop_host::Host;
use backstop_types::error::{ErrorKind, Result, ResultExt};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::encryption::Cipher;
use crate::keys::path;
use crate::manifest::ObjectRef;
use crate::object::{
    self, Encoder, ExpectedObject, ObjectError, ObjectKind, ObjectResult, OpenObject, ReadHeader,
};
use crate::store_error::store_error;

/// Size in bytes above which an object is uploaded in parts.
const UPLOAD_PART_BYTES: usize = 8 * 1024 * 1024;

/// Returns the time limit of a put that other work waits for: a store answers within five seconds,
/// over a line of at least 256 KiB/s.
fn put_timeout(bytes: usize) -> Duration {
    Duration::from_secs(5 + (bytes >> 18) as u64)
}

/// Objects of one repository.
#[derive(Clone)]
pub(crate) struct EncryptedStore {
    pub(crate) backend: Arc<dyn ObjectStore>,
    pub(crate) cipher: Cipher,
    pub(crate) host: Host,
}

/// Outcome of a create-only put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    Yes(ObjectRef),
    /// An object exists under this key already.
    Exists,
}

impl EncryptedStore {
    /// Returns a store of objects that are never encrypted, such as the header of the repository.
    pub(crate) fn plain(backend: Arc<dyn ObjectStore>, host: Host) -> Self {
        Self { backend, cipher: Cipher::Plain, host }
    }

    /// Returns a random id, to tell objects apart.
    pub(crate) fn random_id(&self) -> Result<Uuid> {
        self.host.random.bytes().map(Uuid::from_bytes)
    }

    /// Stores a small value, replacing an existing one.
    pub(crate) async fn put<T: Serialize>(
        &self,
        kind: ObjectKind,
        key: &str,
        value: &T,
    ) -> Result<ObjectRef> {
        let (bytes, reference) = self.encode(kind, key, value)?;
        self.put_bytes(key, bytes).await?;
        Ok(reference)
    }

    /// Stores a small value unless the object exists.
    pub(crate) async fn create<T: Serialize>(
        &self,
        kind: ObjectKind,
        key: &str,
        value: &T,
    ) -> Result<Created> {
        let (bytes, reference) = self.encode(kind, key, value)?;
        match self.backend.put_opts(&path(key), bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes(reference)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Exists),
            Err(error) => Err(store_error("write", key, &error)),
        }
    }

    /// Stores a small value within the time limit, or fails: no caller waits for a dead connection.
    pub(crate) async fn put_with_timeout<T: Serialize>(
        &self,
        kind: ObjectKind,
        key: &str,
        value: &T,
    ) -> Result<()> {
        let (bytes, _) = self.encode(kind, key, value)?;
        let put = self.put_bytes_with_timeout(key, bytes, PutMode::Overwrite).await;
        put.map_err(|error| store_error("write", key, &error))
    }

    /// Sends one put and gives up after the time limit, both for a request that hangs and for one
    /// that fails and is repeated. The put may arrive later.
    pub(crate) async fn put_bytes_with_timeout(
        &self,
        key: &str,
        bytes: Bytes,
        mode: PutMode,
    ) -> std::result::Result<(), Error> {
        let patience = put_timeout(bytes.len());
        let (path, options) = (path(key), mode.into());
        let put = self.backend.put_opts(&path, bytes.into(), options);
        match self.host.within(patience, put).await {
            Some(put) => put.map(drop),
            None => {
                let source = format!("no answer within {} s", patience.as_secs()).into();
                Err(Error::Generic { store: "store", source })
            }
        }
    }

    pub(crate) async fn put_bytes(&self, key: &str, bytes: Bytes) -> Result<()> {
        let put = self.backend.put(&path(key), PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|error| store_error("write", key, &error))
    }

    /// Stores an object whose bytes arrive one after another, in parts if it is larger than one
    /// part.
    pub(crate) async fn put_stream(&self, key: &str, mut parts: mpsc::Receiver<Bytes>) -> Result<()> {
        let mut writer = BufWriter::with_capacity(self.backend.clone(), path(key), UPLOAD_PART_BYTES)
            .with_max_concurrency(2);
        while let Some(part) = parts.recv().await {
            writer.put(part).await.map_err(|error| store_error("write", key, &error))?;
        }
        writer.shutdown().await.context(ErrorKind::Store, format!("cannot write {key}"))
    }

    fn encode<T: Serialize>(&self, kind: ObjectKind, key: &str, value: &T) -> Result<(Bytes, ObjectRef)> {
        let json = serde_json::to_vec(value).failed(format!("cannot write {key}"))?;
        let mut encoder = Encoder::new(kind, key, &self.cipher)?;
        encoder.frames(&json)?;
        Ok(encoder.finish())
    }

    /// Reads a small value.
    pub(crate) async fn get<T: DeserializeOwned>(&self, expected: ExpectedObject<'_>) -> ObjectResult<T> {
        let bytes = object::read_small(&self.backend, &self.cipher, expected).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            ObjectError::damaged(expected.key, format!("its content cannot be read: {error}"))
        })
    }

    /// Returns the stored bytes of an object, unchecked; `None` if it does not exist.
    pub(crate) async fn bytes(&self, key: &str) -> Result<Option<Bytes>> {
        let got = match self.backend.get(&path(key)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error("read", key, &error)),
        }
    }

    pub(crate) async fn open(
        &self,
        expected: ExpectedObject<'_>,
        ends: ReadHeader,
    ) -> ObjectResult<OpenObject> {
        object::open_object(&self.backend, &self.cipher, expected, ends).await
    }

    /// Returns every object below a directory, sorted by key.
    pub(crate) async fn list(&self, directory: &str) -> Result<Vec<(String, u64)>> {
        let listed: Vec<ObjectMeta> = self
            .backend
            .list(Some(&path(directory)))
            .try_collect()
            .await
            .map_err(|error| store_error("list", directory, &error))?;
        let mut objects: Vec<_> =
            listed.into_iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
        objects.sort();
        Ok(objects)
    }

    /// Returns the keys of the objects in a directory that follow a given key.
    pub(crate) async fn list_after(&self, directory: &str, key: &str) -> Result<Vec<String>> {
        let listed = self.backend.list_with_offset(Some(&path(directory)), &path(key));
        let listed: Vec<ObjectMeta> =
            listed.try_collect().await.map_err(|error| store_error("list", directory, &error))?;
        Ok(listed.into_iter().map(|meta| meta.location.to_string()).collect())
    }

    /// Returns true if a directory contains any object.
    pub(crate) async fn has_any(&self, directory: &str) -> Result<bool> {
        match self.backend.list(Some(&path(directory))).next().await {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => Err(store_error("list", directory, &error)),
        }
    }

    /// Returns the names of the subdirectories of a directory.
    pub(crate) async fn directories(&self, directory: &str) -> Result<Vec<String>> {
        let listed = self.backend.list_with_delimiter(Some(&path(directory))).await;
        let listed = listed.map_err(|error| store_error("list", directory, &error))?;
        Ok(listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned)).collect())
    }

    /// Returns the size of an object; `None` if it does not exist.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>> {
        match self.backend.head(&path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error("query", key, &error)),
        }
    }

    /// Returns the time at which an object was stored, by the store's clock.
    pub(crate) async fn stored_at(&self, key: &str) -> Result<DateTime<Utc>> {
        let meta = self.backend.head(&path(key)).await;
        meta.map(|meta| meta.last_modified).map_err(|error| store_error("query", key, &error))
    }

    /// Removes an object. A missing object is no error.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        match self.backend.delete(&path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store_error("remove", key, &error)),
        }
    }
}
