//! What an object says behind the bytes of its piece: `frames of the piece | frames of the JSON | one frame: how many frames the piece has
//! (u32)`. It is read from the object's end, without the piece, in one request.

use backstop_model::error::Result;

use crate::ObjectRef;
use crate::encrypted_store::EncryptedStore;
use crate::object::{self, Encoder, ExpectedObject, ObjectResult, Unpacker, digest_text};

/// What stands behind a piece is smaller than this, almost always.
const GUESS: u64 = 16 * 1024;

/// What stands behind a piece.
pub(crate) struct Trailer {
    /// How many frames the piece has.
    pub(crate) frames: usize,
    pub(crate) json: Vec<u8>,
    /// The object it was read from.
    pub(crate) object: ObjectRef,
}

/// Writes it behind the frames that were written so far.
pub(crate) fn write(encoder: &mut Encoder, json: &[u8]) -> Result<()> {
    let frames = encoder.count() as u32;
    encoder.frames(json)?;
    encoder.frame(&frames.to_le_bytes())
}

/// Reads it. `None`: the object does not end in it.
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
    let with_end = &object::open_end(&store.backend, &store.cipher, expected, GUESS).await?;
    let opened = &with_end.opened;
    let last = match opened.table.frames() {
        [.., count] if count.plain == 4 => opened.table.frames().len() - 1,
        _ => return Ok(None),
    };
    // Trailer a piece of many frames the table alone is larger than the guess.
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
