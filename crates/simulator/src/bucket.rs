//! Bucket: the objects of a store, with the effects of requests on them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, PutMode, Result};

use crate::process::lock;

/// Objects of a store. Every effect is atomic, and a read that begins later sees it.
#[derive(Debug, Default)]
pub struct Bucket {
    objects: Mutex<BTreeMap<String, StoredObject>>,
}

/// A stored object.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// Its bytes.
    pub bytes: Bytes,
    /// Time at which it was stored.
    pub at: DateTime<Utc>,
    /// Number of puts of its key.
    pub version: u64,
}

impl Bucket {
    /// Returns a bucket with the same objects, for a view of what would happen.
    pub fn fork(&self) -> Self {
        Self { objects: Mutex::new(lock(&self.objects).clone()) }
    }

    /// Stores an object.
    ///
    /// # Errors
    /// Fails as S3 does if the object exists and must only be created.
    pub fn put(&self, key: &str, bytes: Bytes, mode: &PutMode, at: DateTime<Utc>) -> Result<u64> {
        let mut objects = lock(&self.objects);
        let before = objects.get(key).map_or(0, |object| object.version);
        match mode {
            PutMode::Create if before > 0 => {
                return Err(Error::AlreadyExists { path: key.to_owned(), source: "it exists".into() });
            }
            PutMode::Create | PutMode::Overwrite => {}
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "a conditional replacement".to_owned(),
                    implementer: "Bucket".to_owned(),
                });
            }
        }
        let version = before + 1;
        objects.insert(key.to_owned(), StoredObject { bytes, at, version });
        Ok(version)
    }

    /// Returns an object.
    ///
    /// # Errors
    /// Fails if it does not exist.
    pub fn get(&self, key: &str) -> Result<StoredObject> {
        let found = lock(&self.objects).get(key).cloned();
        found.ok_or_else(|| Error::NotFound { path: key.to_owned(), source: "no such object".into() })
    }

    /// Removes an object. One that does not exist is no error, as in S3.
    pub fn delete(&self, key: &str) {
        lock(&self.objects).remove(key);
    }

    /// Returns up to `limit` objects below a folder whose keys follow `after`, in order.
    pub fn page(&self, folder: &str, after: &str, limit: usize) -> Vec<ObjectMeta> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let begin = Bound::Excluded(prefix.clone().max(after.to_owned()));
        let objects = lock(&self.objects);
        let below = objects.range((begin, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(&prefix));
        below.take(limit).map(|(key, object)| meta(key, object)).collect()
    }

    /// Returns true if an object exists.
    pub fn has(&self, key: &str) -> bool {
        lock(&self.objects).contains_key(key)
    }
}

/// Returns the description of an object.
pub fn meta(key: &str, object: &StoredObject) -> ObjectMeta {
    ObjectMeta {
        location: Path::from(key),
        last_modified: object.at,
        size: object.bytes.len() as u64,
        e_tag: Some(object.version.to_string()),
        version: None,
    }
}
