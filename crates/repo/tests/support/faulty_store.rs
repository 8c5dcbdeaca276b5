//! Store that fails, loses, falsifies or delays requests where a test says so, and counts its
//! requests.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Behaviour of a store on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// Does what the request asks.
    Honest,
    /// Does nothing, and reports an error.
    Fails,
    /// Does nothing, and reports success.
    Loses,
    /// Overwrites an object that it should only create.
    IgnoresCondition,
    /// Does what the request asks, but reports a conflict: the first answer was lost and the
    /// request repeated.
    Repeats,
    /// Does what the request asks, after a delay.
    Dawdles,
    /// Answers with half of the bytes, as if they were all.
    Short,
    /// Answers with one bit changed.
    Flips,
    /// Answers that the object does not exist.
    Misses,
    /// Rejects every create-only put.
    RefusesCondition,
}

type Rule = Box<dyn Fn(&'static str, &str) -> StoreFault + Send + Sync>;

pub struct FaultyStore {
    inner: InMemory,
    rule: Mutex<Rule>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl FaultyStore {
    pub fn new(rule: impl Fn(&'static str, &str) -> StoreFault + Send + Sync + 'static) -> Self {
        Self { inner: InMemory::new(), rule: Mutex::new(Box::new(rule)), counts: Mutex::default() }
    }

    /// Creates an honest store that holds the objects of another.
    pub fn over(inner: InMemory) -> Self {
        Self { inner, ..Self::honest() }
    }

    pub fn honest() -> Self {
        Self::new(|_, _| StoreFault::Honest)
    }

    pub fn obey(&self, rule: impl Fn(&'static str, &str) -> StoreFault + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Returns the number of requests per operation since the last call.
    pub fn take_counts(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.counts.lock().unwrap())
    }

    async fn deed(&self, operation: &'static str, key: &Path) -> StoreFault {
        *self.counts.lock().unwrap().entry(operation).or_default() += 1;
        let deed = (self.rule.lock().unwrap())(operation, key.as_ref());
        if deed == StoreFault::Dawdles {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        deed
    }
}

/// Returns the answer with fewer bytes, or with a wrong one.
async fn spoilt(answer: GetResult, deed: StoreFault) -> Result<GetResult> {
    let (meta, range, attributes) = (answer.meta.clone(), answer.range.clone(), answer.attributes.clone());
    let mut bytes = answer.bytes().await?.to_vec();
    let middle = bytes.len() / 2;
    match deed {
        StoreFault::Short => bytes.truncate(middle),
        _ => bytes[middle] ^= 1,
    }
    let payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(bytes.into()) }).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
}

fn failure() -> Error {
    Error::Generic { store: "strange", source: "the store is out of order".into() }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        let lie = || PutResult { e_tag: None, version: None, extensions: Default::default() };
        match self.deed("put", location).await {
            StoreFault::RefusesCondition if opts.mode == PutMode::Create => {
                let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
                Err(Error::Generic { store: "strange", source: Box::new(source) })
            }
            StoreFault::Honest
            | StoreFault::Dawdles
            | StoreFault::Short
            | StoreFault::Flips
            | StoreFault::Misses
            | StoreFault::RefusesCondition => self.inner.put_opts(location, payload, opts).await,
            StoreFault::Fails => Err(failure()),
            StoreFault::Loses => Ok(lie()),
            StoreFault::IgnoresCondition => {
                opts.mode = PutMode::Overwrite;
                self.inner.put_opts(location, payload, opts).await
            }
            StoreFault::Repeats => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(Error::AlreadyExists { path: location.to_string(), source: "the first attempt".into() })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.deed("put", location).await {
            StoreFault::Fails => Err(failure()),
            _ => self.inner.put_multipart_opts(location, opts).await,
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "head" } else { "get" };
        match self.deed(operation, location).await {
            StoreFault::Fails => Err(failure()),
            StoreFault::Misses => {
                Err(Error::NotFound { path: location.to_string(), source: "for this once".into() })
            }
            deed @ (StoreFault::Short | StoreFault::Flips) if !options.head => {
                spoilt(self.inner.get_opts(location, options).await?, deed).await
            }
            _ => self.inner.get_opts(location, options).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        *self.counts.lock().unwrap().entry("list").or_default() += 1;
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strange")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strange")
    }
}

impl FaultyStore {
    /// Returns every key, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let all: Vec<_> =
            self.inner.list(None).map_ok(|meta| meta.location.to_string()).collect::<Vec<_>>().await;
        let mut keys: Vec<String> = all.into_iter().map(|key| key.unwrap()).collect();
        keys.sort();
        keys
    }
}
