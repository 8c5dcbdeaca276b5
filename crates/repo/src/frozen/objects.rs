//! Compares stored objects with fixtures byte by byte: a fixture can be read, and a new object has
//! the same header and frames. Compressed bytes may differ between versions of zstd; the
//! decompressed bytes may not.

use bytes::Bytes;

use super::{EncryptedStore, empty_store, keyed};
use crate::block_extents::{BLOCK_BYTES, BlockLocation, Extent, Extents, ExtentsWriter, PackEntry};
use crate::encryption::Cipher;
use crate::fingerprints::{FingerprintsReader, FingerprintsWriter};
use crate::fixtures::{from_hex, frozen, kept, to_hex};
use crate::keys::PackId;
use crate::manifest::ObjectRef;
use crate::object::{
    Encoder, ExpectedObject, HEADER_BYTES, ObjectKind, ReadHeader, Unpacker, digest_text, open_end,
};

/// Returns the plain frames of a stored object.
async fn frames(store: &EncryptedStore, kind: ObjectKind, key: &str) -> Vec<Vec<u8>> {
    let opened = store.open(ExpectedObject { kind, key, reference: None }, ReadHeader::Both).await.unwrap();
    let count = opened.table.frames().len();
    let (bytes, mut unpacker) = (opened.fetch(0..count).await.unwrap(), Unpacker::new().unwrap());
    (0..count).map(|frame| opened.decode(&bytes, 0, frame, &mut unpacker).unwrap().to_vec()).collect()
}

/// Reads the fixture as an object, compares its header and frames with those of these bytes, and
/// leaves it stored. Returns the reference to it.
pub(crate) async fn frozen_object(
    store: &EncryptedStore,
    name: &str,
    kind: ObjectKind,
    key: &str,
    now: Bytes,
) -> ObjectRef {
    let once = Bytes::from(from_hex(&kept(&format!("{name}.hex"), || to_hex(&now))));
    assert_eq!(once[..HEADER_BYTES], now[..HEADER_BYTES], "{name}");
    store.put_bytes(key, now).await.unwrap();
    let now = frames(store, kind, key).await;
    store.put_bytes(key, once.clone()).await.unwrap();
    assert_eq!(frames(store, kind, key).await, now, "{name}");
    frozen(&format!("{name}-frames.hex"), &now.iter().map(|frame| to_hex(frame) + "\n").collect::<String>());
    let expected = ExpectedObject { kind, key, reference: None };
    let opened = open_end(&store.backend, &store.cipher, expected, 64).await.unwrap().opened;
    ObjectRef { key: key.to_owned(), size: once.len() as u64, digest: digest_text(opened.table.digest()) }
}

/// Returns bytes that do not compress.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(&mut next).take(count).collect()
}

fn seals() -> [(&'static str, Cipher); 2] {
    [("plain", Cipher::Plain), ("sealed", keyed())]
}

#[tokio::test]
async fn objects_keep_their_bytes() {
    for (word, cipher) in seals() {
        let (store, key) = (empty_store(cipher), "shards/orders/packs/00000000000000000007-000000000001");
        let mut encoder = Encoder::new(ObjectKind::Pack, key, &store.cipher).unwrap();
        encoder.frame(&noise(100)).unwrap();
        encoder.frame(&[0; BLOCK_BYTES]).unwrap();
        frozen_object(&store, &format!("object-{word}"), ObjectKind::Pack, key, encoder.finish().0).await;
        let key = "shards/orders/packs/00000000000000000007-000000000002";
        let (bytes, _) = Encoder::new(ObjectKind::Pack, key, &store.cipher).unwrap().finish();
        frozen_object(&store, &format!("object-empty-{word}"), ObjectKind::Pack, key, bytes).await;
    }
}

#[tokio::test]
async fn extents_keep_their_bytes() {
    let pack = |number| PackEntry {
        id: PackId { lease: 7, number },
        size: 900 + number,
        digest: [number as u8; 16],
    };
    let place = |pack, block| BlockLocation::Pack { pack, block };
    let all = [
        Extent { file: 0, first: 0, count: 300, place: place(0, 1) },
        Extent { file: 0, first: 300, count: 2, place: BlockLocation::Zero },
        Extent { file: 2, first: 0, count: 1, place: place(1, 0) },
    ];
    for (word, cipher) in seals() {
        let (store, key) = (empty_store(cipher), "shards/orders/backups/00000000000000000007-1/extents");
        let mut writer = ExtentsWriter::new(key, &store.cipher).unwrap();
        for (nth, number) in [1, 0x1_0000_0002].into_iter().enumerate() {
            assert_eq!(writer.number(PackId { lease: 7, number }) as usize, nth);
        }
        all.iter().for_each(|extent| writer.push(*extent).unwrap());
        let (bytes, _) = writer.finish(&[pack(1), pack(0x1_0000_0002)]).unwrap();
        let reference =
            frozen_object(&store, &format!("extents-{word}"), ObjectKind::Extents, key, bytes).await;
        let read = Extents::open(&store, &reference, ReadHeader::Both).await.unwrap();
        assert_eq!(read.packs, [pack(1), pack(0x1_0000_0002)]);
        let mut extents = read.read(vec![302, 0, 1]);
        for extent in all {
            assert_eq!(extents.next().await.unwrap(), Some(extent));
        }
        assert_eq!(extents.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn fingerprints_keep_their_bytes() {
    for (word, cipher) in seals() {
        let (store, key) = (empty_store(cipher), "shards/orders/backups/00000000000000000007-1/fingerprints");
        let prints =
            [store.cipher.fingerprint(&[0; BLOCK_BYTES]), store.cipher.fingerprint(&noise(BLOCK_BYTES))];
        let mut writer = FingerprintsWriter::new(key, &store.cipher).unwrap();
        prints.iter().for_each(|print| writer.push(print).unwrap());
        let (bytes, _) = writer.finish().unwrap();
        let name = format!("fingerprints-{word}");
        let reference = frozen_object(&store, &name, ObjectKind::Fingerprints, key, bytes).await;
        let mut read = FingerprintsReader::open(&store, &reference, 2, ReadHeader::Both).await.unwrap();
        for print in prints {
            assert_eq!(read.next().await.unwrap(), print);
        }
    }
}
