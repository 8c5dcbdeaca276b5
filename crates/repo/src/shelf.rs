//! The store together with the seal: where objects are put, read, listed and removed.

use std::sync::Arc;
use std::time::Duration;

use backstop_model::fault::{Context, Kind, Result};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::keys::path;
use crate::manifest::ObjectRef;
use crate::object::{self, Encoder, Ends, Expected, ObjectFault, ObjectKind, ObjectResult, Opened};
use crate::seal::Seal;
use crate::store::fault;

/// What outgrows this is uploaded in parts.
const PART: usize = 8 * 1024 * 1024;

/// How long a put that others wait for may take: a store answers within five seconds, over a line of 256 KiB/s or more.
fn patience(bytes: usize) -> Duration {
    Duration::from_secs(5 + (bytes >> 18) as u64)
}

/// The objects of one repository.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) seal: Seal,
}

/// What became of a create-only put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    Yes(ObjectRef),
    /// Something is stored under this key already.
    Exists,
}

impl Shelf {
    /// Stores a small value, replacing what is there.
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

    /// Stores a small value unless something is there.
    pub(crate) async fn create<T: Serialize>(
        &self,
        kind: ObjectKind,
        key: &str,
        value: &T,
    ) -> Result<Created> {
        let (bytes, reference) = self.encode(kind, key, value)?;
        match self.store.put_opts(&path(key), bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes(reference)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Exists),
            Err(error) => Err(fault("write", key, &error)),
        }
    }

    /// Stores a small value soon, or fails: nobody waits for a connection that is dead.
    pub(crate) async fn put_soon<T: Serialize>(&self, kind: ObjectKind, key: &str, value: &T) -> Result<()> {
        let (bytes, _) = self.encode(kind, key, value)?;
        let put = self.bytes_soon(key, bytes, PutMode::Overwrite).await;
        put.map_err(|error| fault("write", key, &error))
    }

    /// One put that is given up soon, whether it is a request that hangs or one that fails and is repeated. It may arrive later.
    pub(crate) async fn bytes_soon(
        &self,
        key: &str,
        bytes: Bytes,
        mode: PutMode,
    ) -> std::result::Result<(), Error> {
        let patience = patience(bytes.len());
        let (path, options) = (path(key), mode.into());
        let put = self.store.put_opts(&path, bytes.into(), options);
        match tokio::time::timeout(patience, put).await {
            Ok(put) => put.map(drop),
            Err(_) => {
                let source = format!("no answer within {} s", patience.as_secs()).into();
                Err(Error::Generic { store: "store", source })
            }
        }
    }

    pub(crate) async fn put_bytes(&self, key: &str, bytes: Bytes) -> Result<()> {
        let put = self.store.put(&path(key), PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|error| fault("write", key, &error))
    }

    /// Stores an object whose bytes come one after another, in parts if it outgrows one.
    pub(crate) async fn put_stream(&self, key: &str, mut parts: mpsc::Receiver<Bytes>) -> Result<()> {
        let mut writer =
            BufWriter::with_capacity(self.store.clone(), path(key), PART).with_max_concurrency(2);
        while let Some(part) = parts.recv().await {
            writer.put(part).await.map_err(|error| fault("write", key, &error))?;
        }
        writer.shutdown().await.fault(Kind::Store, format!("write {key}"))
    }

    fn encode<T: Serialize>(&self, kind: ObjectKind, key: &str, value: &T) -> Result<(Bytes, ObjectRef)> {
        let json = serde_json::to_vec(value).failed(format!("write {key}"))?;
        let mut encoder = Encoder::new(kind, key, &self.seal)?;
        encoder.frames(&json)?;
        Ok(encoder.finish())
    }

    /// Reads a small value.
    pub(crate) async fn get<T: DeserializeOwned>(&self, expected: Expected<'_>) -> ObjectResult<T> {
        let bytes = object::read_small(&self.store, &self.seal, expected).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            ObjectFault::damaged(expected.key, format!("its content cannot be read: {error}"))
        })
    }

    /// The stored bytes of an object, whatever they are; `None` if it is not there.
    pub(crate) async fn bytes(&self, key: &str) -> Result<Option<Bytes>> {
        let got = match self.store.get(&path(key)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(fault("read", key, &error)),
        }
    }

    pub(crate) async fn open(&self, expected: Expected<'_>, ends: Ends) -> ObjectResult<Opened> {
        object::open(&self.store, &self.seal, expected, ends).await
    }

    /// Every object below a directory, sorted by key.
    pub(crate) async fn list(&self, directory: &str) -> Result<Vec<(String, u64)>> {
        let listed: Vec<ObjectMeta> = self
            .store
            .list(Some(&path(directory)))
            .try_collect()
            .await
            .map_err(|error| fault("list", directory, &error))?;
        let mut objects: Vec<_> =
            listed.into_iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
        objects.sort();
        Ok(objects)
    }

    /// The keys of the objects in a directory that come after one.
    pub(crate) async fn list_after(&self, directory: &str, key: &str) -> Result<Vec<String>> {
        let listed = self.store.list_with_offset(Some(&path(directory)), &path(key));
        let listed: Vec<ObjectMeta> =
            listed.try_collect().await.map_err(|error| fault("list", directory, &error))?;
        Ok(listed.into_iter().map(|meta| meta.location.to_string()).collect())
    }

    /// True if there is anything below a directory.
    pub(crate) async fn has_any(&self, directory: &str) -> Result<bool> {
        match self.store.list(Some(&path(directory))).next().await {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => Err(fault("list", directory, &error)),
        }
    }

    /// The names of the directories in a directory.
    pub(crate) async fn directories(&self, directory: &str) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(&path(directory))).await;
        let listed = listed.map_err(|error| fault("list", directory, &error))?;
        Ok(listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned)).collect())
    }

    /// The size of an object; `None` if it is not there.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>> {
        match self.store.head(&path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(fault("look at", key, &error)),
        }
    }

    /// When an object was stored, by the store's clock.
    pub(crate) async fn stored_at(&self, key: &str) -> Result<DateTime<Utc>> {
        let meta = self.store.head(&path(key)).await;
        meta.map(|meta| meta.last_modified).map_err(|error| fault("look at", key, &error))
    }

    /// Removes an object. One that is gone is no error.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        match self.store.delete(&path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(fault("remove", key, &error)),
        }
    }
}
