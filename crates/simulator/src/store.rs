//! Store: a client of a bucket, whose requests are delayed, lost, answered wrongly or land late.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::bucket::{Bucket, StoredObject, meta};
use crate::dice::Dice;
use crate::process::{lock, true_time};
use crate::trace::Trace;

/// Time after which a client gives up a request without an answer, its retries included.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// Largest page of a list.
const MAX_PAGE: u64 = 40;

/// Fault of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RequestFault {
    /// 503 without an effect.
    Refused,
    /// Lost on its way: no effect, no answer.
    LostRequest,
    /// Effect without an answer.
    LostAnswer,
    /// Effect, and an error at once: the connection broke.
    BrokenAnswer,
    /// Effect; the client's own repetition of a create-only put finds the object.
    Repeated,
    /// Effect, a few seconds late.
    Slow,
    /// Error at once, effect up to a minute later, even if the client has died.
    Late,
    /// A read answers with half of the bytes, as if they were all.
    ShortBody,
    /// A read answers with one bit changed.
    FlippedBody,
    /// A put reports success without an effect.
    Forgotten,
}

/// A store that all clients share.
pub struct StoreWorld {
    /// The objects.
    pub bucket: Bucket,
    /// True while every request is refused.
    pub down: AtomicBool,
    /// True once no request fails any more.
    pub calm: AtomicBool,
    /// Trace of the run.
    pub trace: Arc<Trace>,
    /// Keys of puts that were forgotten though they reported success.
    pub forgotten: std::sync::Mutex<Vec<String>>,
}

impl StoreWorld {
    /// Returns an empty store.
    pub fn new(trace: Arc<Trace>) -> Arc<Self> {
        Self::with(Bucket::default(), trace)
    }

    /// Returns a store with these objects.
    pub fn with(bucket: Bucket, trace: Arc<Trace>) -> Arc<Self> {
        let (down, calm) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { bucket, down, calm, trace, forgotten: Default::default() })
    }
}

/// A client of a store.
pub struct SimStore {
    world: Arc<StoreWorld>,
    name: String,
    seed: u64,
    /// Fault of each request, by its number.
    faults: BTreeMap<u64, RequestFault>,
    requests: Arc<AtomicU64>,
    cut_off: Arc<AtomicBool>,
    /// True if every request has its effect and its answer at once.
    is_instant: bool,
}

/// Delays and outcome of one request.
#[derive(Debug, Clone, Copy)]
struct Fate {
    number: u64,
    before: Duration,
    after: Duration,
    fault: Option<RequestFault>,
}

impl SimStore {
    /// Returns a client whose requests are numbered across its restarts by `requests`.
    pub fn new(
        world: &Arc<StoreWorld>,
        name: &str,
        seed: u64,
        faults: BTreeMap<u64, RequestFault>,
        requests: &Arc<AtomicU64>,
        cut_off: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            world: Arc::clone(world),
            name: name.to_owned(),
            seed,
            faults,
            requests: Arc::clone(requests),
            cut_off: Arc::clone(cut_off),
            is_instant: false,
        }
    }

    /// Returns a client without delays and faults.
    pub fn instant(world: &Arc<StoreWorld>) -> Self {
        let mut client = Self::new(world, "oracle", 0, BTreeMap::new(), &Arc::default(), &Arc::default());
        client.is_instant = true;
        client
    }

    fn fate(&self) -> Fate {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut dice = Dice::of(self.seed, &self.name, number);
        let is_calm = self.world.calm.load(Ordering::Relaxed);
        let fault = self.faults.get(&number).copied().filter(|_| !is_calm);
        let (mut before, after) = (dice.millis(1, 25), dice.millis(1, 15));
        match fault {
            Some(RequestFault::Slow) => before = dice.millis(2_000, 8_000),
            Some(RequestFault::Late) => before = dice.millis(500, 60_000),
            _ => {}
        }
        Fate { number, before, after, fault }
    }

    /// Sends a request: the effect takes place on the store's side, whatever becomes of the client.
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn request<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        effect: impl FnOnce(&StoreWorld, Option<RequestFault>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.is_instant {
            return effect(&self.world, None);
        }
        let (fate, name, key) = (self.fate(), self.name.clone(), key.to_owned());
        let (world, cut_off) = (Arc::clone(&self.world), Arc::clone(&self.cut_off));
        let (sender, answer) = oneshot::channel();
        tokio::spawn(async move {
            let early = matches!(fate.fault, Some(RequestFault::Late));
            let mut sender = Some(sender);
            if early && let Some(sender) = sender.take() {
                let _ = sender.send(Err(failure("the connection broke")));
            }
            tokio::time::sleep(fate.before).await;
            let is_down = world.down.load(Ordering::Relaxed) || cut_off.load(Ordering::Relaxed);
            let answered = happen(&world, fate, is_down, effect);
            let outcome = outcome_of(&answered);
            world.trace.event(&name, format_args!("{} {operation} {key} {outcome}", fate.number));
            match answered {
                Some(answer) => {
                    tokio::time::sleep(fate.after).await;
                    reply(sender, answer);
                }
                None => {
                    tokio::time::sleep(CLIENT_PATIENCE).await;
                    reply(sender, Err(failure("no answer")));
                }
            }
        });
        answer.await.unwrap_or_else(|_| Err(failure("the store is gone")))
    }
}

/// Sends an answer. A client that has died receives nothing.
fn reply<T>(sender: Option<oneshot::Sender<T>>, answer: T) {
    if let Some(sender) = sender {
        let _ = sender.send(answer);
    }
}

/// Lets a request have its effect, and returns its answer; `None`: it gets none.
fn happen<T>(
    world: &StoreWorld,
    fate: Fate,
    is_down: bool,
    effect: impl FnOnce(&StoreWorld, Option<RequestFault>) -> Result<T>,
) -> Option<Result<T>> {
    match fate.fault {
        _ if is_down => Some(Err(failure("503"))),
        Some(RequestFault::Refused) => Some(Err(failure("503"))),
        Some(RequestFault::LostRequest) => None,
        Some(RequestFault::LostAnswer) => {
            let _ = effect(world, None);
            None
        }
        Some(RequestFault::BrokenAnswer) => {
            let _ = effect(world, None);
            Some(Err(failure("the connection broke")))
        }
        fault => Some(effect(world, fault)),
    }
}

fn outcome_of<T>(answered: &Option<Result<T>>) -> String {
    match answered {
        None => "no answer".to_owned(),
        Some(Ok(_)) => "ok".to_owned(),
        Some(Err(Error::NotFound { .. })) => "not found".to_owned(),
        Some(Err(Error::AlreadyExists { .. })) => "exists".to_owned(),
        Some(Err(error)) => error.to_string(),
    }
}

fn failure(why: &'static str) -> Error {
    Error::Generic { store: "simulated", source: why.into() }
}

fn put_result(version: u64) -> PutResult {
    PutResult { e_tag: Some(version.to_string()), version: None, extensions: Default::default() }
}

fn joined(payload: &PutPayload) -> Bytes {
    let mut all = Vec::with_capacity(payload.content_length());
    payload.iter().for_each(|part| all.extend_from_slice(part));
    all.into()
}

fn put_effect(
    world: &StoreWorld,
    fault: Option<RequestFault>,
    key: &str,
    bytes: Bytes,
    mode: &PutMode,
) -> Result<PutResult> {
    let at = true_time(world.trace.now());
    if fault == Some(RequestFault::Forgotten) {
        lock(&world.forgotten).push(key.to_owned());
        return Ok(put_result(0));
    }
    let put = world.bucket.put(key, bytes, mode, at).map(put_result);
    if fault == Some(RequestFault::Repeated) && *mode == PutMode::Create && put.is_ok() {
        return Err(Error::AlreadyExists { path: key.to_owned(), source: "the first attempt".into() });
    }
    put
}

/// Returns an object, possibly spoilt.
fn got(
    object: &StoredObject,
    key: &str,
    options: GetOptions,
    fault: Option<RequestFault>,
) -> Result<GetResult> {
    let meta = meta(key, object);
    options.check_preconditions(&meta)?;
    let size = meta.size;
    let range = match &options.range {
        None => 0..size,
        Some(range @ GetRange::Bounded(_) | range @ (GetRange::Offset(_) | GetRange::Suffix(_))) => {
            range.as_range(size).map_err(|_| failure("416"))?
        }
    };
    let mut bytes = object.bytes.slice(range.start as usize..range.end as usize).to_vec();
    let middle = bytes.len() / 2;
    match fault {
        Some(RequestFault::ShortBody) if !options.head => bytes.truncate(middle),
        Some(RequestFault::FlippedBody) if !options.head && !bytes.is_empty() => bytes[middle] ^= 1,
        _ => {}
    }
    if options.head {
        bytes.clear();
    }
    let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes.into()) }).boxed());
    Ok(GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() })
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (key, bytes) = (location.to_string(), joined(&payload));
        let effect = move |world: &StoreWorld, fault| put_effect(world, fault, &key, bytes, &options.mode);
        self.request("put", location.as_ref(), effect).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let store = self.again();
        Ok(Box::new(SimUpload { store, location: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = location.to_string();
        let operation = if options.head { "head" } else { "get" };
        let effect = move |world: &StoreWorld, fault| got(&world.bucket.get(&key)?, &key, options, fault);
        self.request(operation, location.as_ref(), effect).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = Arc::new(self.again());
        let deleted = locations.then(move |location| {
            let store = Arc::clone(&store);
            async move {
                let location = location?;
                let key = location.to_string();
                let effect = move |world: &StoreWorld, _| {
                    world.bucket.delete(&key);
                    Ok(())
                };
                store.request("delete", location.as_ref(), effect).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.again();
        let folder = prefix.map(Path::to_string).unwrap_or_default();
        let listed = async move {
            match store.pages(&folder).await {
                Ok(listed) => listed.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(listed).flat_map(stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.map(Path::to_string).unwrap_or_default();
        let (mut objects, mut folders) = (Vec::new(), std::collections::BTreeSet::new());
        for meta in self.pages(&folder).await? {
            let rest = meta.location.as_ref()[folder.len()..].trim_start_matches('/').to_owned();
            match rest.split_once('/') {
                Some((name, _)) => drop(folders.insert(Path::from(format!("{folder}/{name}")))),
                None => objects.push(meta),
            }
        }
        let common_prefixes = folders.into_iter().collect();
        Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".to_owned(), implementer: "SimStore".to_owned() })
    }
}

impl SimStore {
    /// Returns a handle of the same client.
    fn again(&self) -> Self {
        let Self { world, name, seed, faults, requests, cut_off, is_instant } = self;
        let mut again = Self::new(world, name, *seed, faults.clone(), requests, cut_off);
        again.is_instant = *is_instant;
        again
    }

    /// Lists a folder page by page: others write between the pages.
    async fn pages(&self, folder: &str) -> Result<Vec<ObjectMeta>> {
        let mut listed: Vec<ObjectMeta> = Vec::new();
        let limit = match self.is_instant {
            true => usize::MAX,
            false => 1 + Dice::of(self.seed, folder, listed.len() as u64).below(MAX_PAGE) as usize,
        };
        loop {
            let after = listed.last().map(|meta| meta.location.to_string()).unwrap_or_default();
            let of = folder.to_owned();
            let effect = move |world: &StoreWorld, _| Ok(world.bucket.page(&of, &after, limit));
            let page = self.request("list", folder, effect).await?;
            let ended = page.len() < limit;
            listed.extend(page);
            if ended {
                return Ok(listed);
            }
        }
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.name)
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Upload in parts: the object appears with its completion.
#[derive(Debug)]
struct SimUpload {
    store: SimStore,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for SimUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(joined(&data));
        futures::future::ready(Ok(())).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = std::mem::take(&mut self.parts).into_iter().collect::<PutPayload>();
        self.store.put_opts(&self.location, payload, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}
