//! Reads an object: its ends first, then the wanted frames.

use std::ops::Range;
use std::sync::Arc;

use backstop_host::Host;
use backstop_types::error::Error;
use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::sync::mpsc;

use super::compression::Unpacker;
use super::{
    FrameTable, HEADER_BYTES, ObjectError, ObjectKind, ObjectResult, TABLE_SIZE_GUESS, check_header,
    digest_text, frame_table,
};
use crate::encryption::{Cipher, digest};
use crate::keys::path;
use crate::manifest::ObjectRef;
use crate::store_error::{error_chain, store_error};

/// Maximum number of bytes that [`stream_frames`] fetches at a time.
const MAX_FETCH_BYTES: u64 = 4 * 1024 * 1024;

/// Expected properties of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpectedObject<'a> {
    pub(crate) kind: ObjectKind,
    pub(crate) key: &'a str,
    /// Size and digest, if another object refers to it.
    pub(crate) reference: Option<&'a ObjectRef>,
}

impl<'a> ExpectedObject<'a> {
    pub(crate) fn referenced(kind: ObjectKind, reference: &'a ObjectRef) -> Self {
        Self { kind, key: &reference.key, reference: Some(reference) }
    }

    fn check(&self, size: u64, table: Option<&FrameTable>) -> ObjectResult<()> {
        let Some(reference) = self.reference else { return Ok(()) };
        if size != reference.size {
            let wrong = format!("it has {size} bytes, not the {} it was stored with", reference.size);
            return Err(ObjectError::damaged(self.key, wrong));
        }
        match table {
            Some(table) if digest_text(table.digest()) != reference.digest => {
                Err(ObjectError::damaged(self.key, "it is not the object that was stored under this name"))
            }
            _ => Ok(()),
        }
    }
}

/// Returns true if the request should be repeated: one bad answer of a store, or of a proxy before
/// it, is no proof of damage.
pub(crate) fn is_doubtful(error: &ObjectError, reference: Option<&ObjectRef>) -> bool {
    let doubtful = match error {
        ObjectError::Damaged { .. } => true,
        // If another object refers to it, its absence is damage as well.
        ObjectError::Missing { .. } => reference.is_some(),
        ObjectError::Store(_) => false,
    };
    if doubtful {
        tracing::warn!("{}; reading it once more", Error::from(error.clone()));
    }
    doubtful
}

/// Object whose frame table has been read and checked.
#[derive(Clone)]
pub(crate) struct OpenObject {
    store: Arc<dyn ObjectStore>,
    key: String,
    cipher: Cipher,
    pub(crate) table: Arc<FrameTable>,
}

/// Selects whether to read the header as well. Frames are verified by their digests; the header
/// describes an object to a reader that has no reference to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadHeader {
    Tail,
    Both,
}

/// Opens an object. Its size comes from its reference, or else from the store.
pub(crate) async fn open_object(
    store: &Arc<dyn ObjectStore>,
    cipher: &Cipher,
    expected: ExpectedObject<'_>,
    ends: ReadHeader,
) -> ObjectResult<OpenObject> {
    if ends == ReadHeader::Both {
        match head(store, cipher, expected).await {
            Err(error) if is_doubtful(&error, expected.reference) => head(store, cipher, expected).await?,
            read => read?,
        }
    }
    Ok(open_end(store, cipher, expected, TABLE_SIZE_GUESS).await?.opened)
}

async fn head(
    store: &Arc<dyn ObjectStore>,
    cipher: &Cipher,
    expected: ExpectedObject<'_>,
) -> ObjectResult<()> {
    let head = get(store, expected.key, 0..HEADER_BYTES as u64).await?;
    check_header(&head, expected.kind, expected.key, cipher)
}

/// Open object, with the bytes that were fetched along with its frame table.
pub(crate) struct OpenObjectEnd {
    pub(crate) opened: OpenObject,
    /// Size of the whole object in bytes.
    pub(crate) size: u64,
    /// Last bytes of the object.
    end: Bytes,
}

impl OpenObjectEnd {
    /// Returns the stored bytes of the frames from this one to the last, if they were fetched
    /// along.
    pub(crate) fn frames_from(&self, first: usize) -> Option<Bytes> {
        let offset = self.opened.table.frames().get(first)?.offset;
        let start = offset.checked_sub(self.size - self.end.len() as u64)?;
        Some(self.end.slice(start as usize..))
    }
}

/// Opens an object by its end: fetches `guess` bytes of it with the first request.
pub(crate) async fn open_end(
    store: &Arc<dyn ObjectStore>,
    cipher: &Cipher,
    expected: ExpectedObject<'_>,
    guess: u64,
) -> ObjectResult<OpenObjectEnd> {
    match end(store, cipher, expected, guess).await {
        Err(error) if is_doubtful(&error, expected.reference) => end(store, cipher, expected, guess).await,
        read => read,
    }
}

async fn end(
    store: &Arc<dyn ObjectStore>,
    cipher: &Cipher,
    expected: ExpectedObject<'_>,
    guess: u64,
) -> ObjectResult<OpenObjectEnd> {
    let key = expected.key;
    let (size, mut end) = get_tail(store, key, guess).await?;
    expected.check(size, None)?;
    let needed = frame_table::table_size(key, size, &end)?;
    if needed > end.len() as u64 {
        (_, end) = get_tail(store, key, needed).await?;
    }
    let table = frame_table::parse_table(key, size, &end)?;
    expected.check(size, Some(&table))?;
    let opened = OpenObject {
        store: store.clone(),
        key: key.to_owned(),
        cipher: cipher.clone(),
        table: Arc::new(table),
    };
    Ok(OpenObjectEnd { opened, size, end })
}

impl OpenObject {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the stored bytes of consecutive frames, unchecked.
    pub(crate) async fn fetch(&self, frames: Range<usize>) -> ObjectResult<Bytes> {
        let span = self.table.span(frames);
        match get(&self.store, &self.key, span.clone()).await {
            // The object was opened: so it exists, and has the length that its table says.
            Err(error @ (ObjectError::Missing { .. } | ObjectError::Damaged { .. })) => {
                tracing::warn!("{}; reading it once more", Error::from(error));
                get(&self.store, &self.key, span).await
            }
            fetched => fetched,
        }
    }

    /// Checks, decrypts and decompresses a frame. `bytes` are the result of [`OpenObject::fetch`]
    /// for frames from `first` on.
    pub(crate) fn decode<'u>(
        &self,
        bytes: &Bytes,
        first: usize,
        number: usize,
        unpacker: &'u mut Unpacker,
    ) -> ObjectResult<&'u [u8]> {
        let wrong = |what: String| ObjectError::damaged(&self.key, what);
        let frames = self.table.frames();
        let (Some(start), Some(frame)) = (frames.get(first), frames.get(number)) else {
            return Err(wrong(format!("it has no frame {number}")));
        };
        let from = (frame.offset - start.offset) as usize;
        let stored =
            bytes.get(from..from + frame.stored as usize).ok_or_else(|| wrong("it is cut off".into()))?;
        if digest(stored) != frame.digest {
            return Err(wrong(format!("the checksum of frame {number} does not match")));
        }
        let unpacked = if self.cipher.is_keyed() {
            let body = self.cipher.decrypt_frame(&self.key, number as u64, stored);
            let body = body.ok_or_else(|| wrong(format!("frame {number} is not authentic")))?;
            unpacker.unpack(&body, frame.plain as usize)
        } else {
            unpacker.unpack(stored, frame.plain as usize)
        };
        unpacked.map_err(|what| wrong(format!("{what} (frame {number})")))
    }
}

/// Reads a small object whole: checks every checksum and joins the frames.
pub(crate) async fn read_small(
    store: &Arc<dyn ObjectStore>,
    cipher: &Cipher,
    expected: ExpectedObject<'_>,
) -> ObjectResult<Vec<u8>> {
    match whole(store, cipher, expected).await {
        Err(error) if is_doubtful(&error, expected.reference) => whole(store, cipher, expected).await,
        read => read,
    }
}

async fn whole(
    store: &Arc<dyn ObjectStore>,
    cipher: &Cipher,
    expected: ExpectedObject<'_>,
) -> ObjectResult<Vec<u8>> {
    let key = expected.key;
    let got = store.get(&path(key)).await.map_err(|error| read_error(key, error))?;
    let limit = expected.kind.max_content_bytes();
    check_content_size(key, got.meta.size, limit)?;
    let bytes = got.bytes().await.map_err(|error| read_error(key, error))?;
    check_header(&bytes, expected.kind, key, cipher)?;
    let size = bytes.len() as u64;
    expected.check(size, None)?;
    let table = Arc::new(frame_table::parse_table(key, size, &bytes)?);
    expected.check(size, Some(&table))?;
    check_content_size(key, table.frames().iter().map(|frame| u64::from(frame.plain)).sum(), limit)?;
    let opened = OpenObject { store: store.clone(), key: key.to_owned(), cipher: cipher.clone(), table };
    let (mut whole, mut unpacker) = (Vec::new(), Unpacker::new()?);
    let body = bytes.slice(HEADER_BYTES..);
    for number in 0..opened.table.frames().len() {
        whole.extend_from_slice(opened.decode(&body, 0, number, &mut unpacker)?);
    }
    Ok(whole)
}

/// Refuses an object whose stored or plain bytes exceed the limit of its kind.
fn check_content_size(key: &str, bytes: u64, limit: u64) -> ObjectResult<()> {
    if bytes <= limit {
        return Ok(());
    }
    Err(ObjectError::damaged(key, format!("it has {bytes} bytes, and objects of its kind at most {limit}")))
}

/// Reads consecutive frames ahead of the receiver of the channel: at most two fetches of
/// [`MAX_FETCH_BYTES`] bytes wait there. Ends with the first error.
pub(crate) fn stream_frames(
    host: &Host,
    opened: OpenObject,
    frames: Range<usize>,
) -> mpsc::Receiver<ObjectResult<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(32);
    host.spawn(async move {
        if let Err(error) = feed(&opened, frames, &sender).await {
            // The receiver may be gone; the error is then of no interest.
            let _ = sender.send(Err(error)).await;
        }
    });
    receiver
}

async fn feed(
    opened: &OpenObject,
    frames: Range<usize>,
    sender: &mpsc::Sender<ObjectResult<Vec<u8>>>,
) -> ObjectResult<()> {
    let (mut next, mut unpacker) = (frames.start, Unpacker::new()?);
    while next < frames.end {
        let batch = next..batch_end(&opened.table, next, frames.end);
        let (mut bytes, mut again) = (opened.fetch(batch.clone()).await?, false);
        for number in batch.clone() {
            let frame = match opened.decode(&bytes, batch.start, number, &mut unpacker) {
                Err(error) if !again && is_doubtful(&error, None) => {
                    (bytes, again) = (opened.fetch(batch.clone()).await?, true);
                    opened.decode(&bytes, batch.start, number, &mut unpacker)?.to_vec()
                }
                decoded => decoded?.to_vec(),
            };
            if sender.send(Ok(frame)).await.is_err() {
                return Ok(());
            }
        }
        next = batch.end;
    }
    Ok(())
}

fn batch_end(table: &FrameTable, start: usize, end: usize) -> usize {
    let mut stop = start + 1;
    while stop < end
        && (table.span(start..stop + 1).end - table.span(start..start + 1).start) <= MAX_FETCH_BYTES
    {
        stop += 1;
    }
    stop
}

async fn get(store: &Arc<dyn ObjectStore>, key: &str, range: Range<u64>) -> ObjectResult<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let wanted = range.end - range.start;
    let end = range.end;
    match store.get_range(&path(key), range).await {
        Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
        Ok(_) => Err(cut_off(key)),
        Err(error) => Err(too_short_or(store, key, end, error).await),
    }
}

fn cut_off(key: &str) -> ObjectError {
    ObjectError::damaged(key, "it is cut off")
}

/// Tells a too short object from another error by its size: stores have no common error for a range
/// beyond an object's end.
async fn too_short_or(
    store: &Arc<dyn ObjectStore>,
    key: &str,
    end: u64,
    error: object_store::Error,
) -> ObjectError {
    match store.head(&path(key)).await {
        Ok(meta) if meta.size < end => cut_off(key),
        _ => read_error(key, error),
    }
}

/// Converts an error from reading an object that should exist.
fn read_error(key: &str, error: object_store::Error) -> ObjectError {
    match &error {
        object_store::Error::NotFound { .. } if !error_chain(&error).contains("NoSuchBucket") => {
            ObjectError::Missing { key: key.to_owned() }
        }
        _ => ObjectError::Store(store_error("read", key, &error)),
    }
}

/// Returns the size of an object and its last bytes.
async fn get_tail(store: &Arc<dyn ObjectStore>, key: &str, length: u64) -> ObjectResult<(u64, Bytes)> {
    let options = GetOptions { range: Some(GetRange::Suffix(length)), ..GetOptions::default() };
    let got = match store.get_opts(&path(key), options).await {
        Ok(got) => got,
        Err(error) => return Err(too_short_or(store, key, 1, error).await),
    };
    let size = got.meta.size;
    let bytes = got.bytes().await.map_err(|error| read_error(key, error))?;
    Ok((size, bytes))
}

/// Runs blocking work on a thread for blocking work.
pub(crate) async fn run_blocking<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce() -> ObjectResult<T> + Send + 'static,
) -> ObjectResult<T> {
    host.blocking(work).await.map_err(ObjectError::Store)?
}
