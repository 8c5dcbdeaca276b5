//! Trailer of an object, behind the bytes of its segment: `frames of the segment | frames of the
//! JSON | one frame: number of the segment's frames (u32)`. One request reads it from the object's
//! end, without the segment.

use backstop_types::error::Result;

use crate::ObjectRef;
use crate::encrypted_store::EncryptedStore;
use crate::object::{self, Encoder, ExpectedObject, ObjectResult, Unpacker, digest_text};

/// Size in bytes that a trailer almost never exceeds.
const TRAILER_SIZE_GUESS: u64 = 16 * 1024;

/// Trailer of a segment's object.
pub(crate) struct Trailer {
    /// Number of the segment's frames.
    pub(crate) frames: usize,
    pub(crate) json: Vec<u8>,
    /// Object it was read from.
    pub(crate) object: ObjectRef,
}

/// Writes it behind the frames written before.
pub(crate) fn write(encoder: &mut Encoder, json: &[u8]) -> Result<()> {
    let frames = encoder.count() as u32;
    encoder.frames(json)?;
    encoder.frame(&frames.to_le_bytes())
}

/// Reads it. `None`: the object has no trailer.
pub(crate) async fn read(
    store: &EncryptedStore,
    expected: ExpectedObject<'_>,
) -> ObjectResult<Option<Trailer>> {
    match read_once(store, expected).await {
        Err(error) if object::is_doubtful(&error, None) => read_once(store, expected).await,
        read => read,
    }
}

async fn read_once(store: &EncryptedStore, expected: ExpectedObject<'_>) -> ObjectResult<Option<Trailer>> {
    let key = expected.key;
    let with_end = &object::open_end(&store.backend, &store.cipher, expected, TRAILER_SIZE_GUESS).await?;
    let opened = &with_end.opened;
    let last = match opened.table.frames() {
        [.., count] if count.plain == 4 => opened.table.frames().len() - 1,
        _ => return Ok(None),
    };
    // For a segment of many frames, the table alone is larger than the guess.
    let from = |first: usize| async move {
        match with_end.frames_from(first) {
            Some(bytes) => Ok(bytes),
            None => with_end.opened.fetch(first..last + 1).await,
        }
    };
    let mut unpacker = Unpacker::new()?;
    let end = from(last).await?;
    let frames = opened.decode(&end, last, last, &mut unpacker)?.first_chunk().copied();
    let frames = frames.map(|frames| u32::from_le_bytes(frames) as usize);
    let Some(frames) = frames.filter(|frames| *frames < last) else { return Ok(None) };
    let bytes = from(frames).await?;
    let mut json = Vec::new();
    for frame in frames..last {
        json.extend_from_slice(opened.decode(&bytes, frames, frame, &mut unpacker)?);
    }
    let digest = digest_text(opened.table.digest());
    let object = ObjectRef { key: key.to_owned(), size: with_end.size, digest };
    Ok(Some(Trailer { frames, json, object }))
}
