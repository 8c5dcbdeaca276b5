//! Objects byte by byte: what was stored once is read, and what is stored now has the same header and the same frames. Compressed bytes may
//! differ from one version of zstd to the next; what they mean may not.

use bytes::Bytes;

use super::{Shelf, keyed, shelf};
use crate::extents::{BLOCK, Extent, Extents, ExtentsWriter, Pack, Place};
use crate::fingerprints::{FingerprintsReader, FingerprintsWriter};
use crate::fixtures::{from_hex, frozen, kept, to_hex};
use crate::keys::PackId;
use crate::manifest::ObjectRef;
use crate::object::{Encoder, Ends, Expected, HEADER, ObjectKind, Unpacker, digest_text, open_end};
use crate::seal::Seal;

/// The plain frames of a stored object.
async fn frames(shelf: &Shelf, kind: ObjectKind, key: &str) -> Vec<Vec<u8>> {
    let opened = shelf.open(Expected { kind, key, reference: None }, Ends::Both).await.unwrap();
    let count = opened.table.frames().len();
    let (bytes, mut unpacker) = (opened.fetch(0..count).await.unwrap(), Unpacker::new().unwrap());
    (0..count).map(|frame| opened.decode(&bytes, 0, frame, &mut unpacker).unwrap().to_vec()).collect()
}

/// Reads the fixture as an object, compares its header and frames with those of these bytes, and leaves it stored. Gives the reference to
/// it.
pub(crate) async fn frozen_object(
    shelf: &Shelf,
    name: &str,
    kind: ObjectKind,
    key: &str,
    now: Bytes,
) -> ObjectRef {
    let once = Bytes::from(from_hex(&kept(&format!("{name}.hex"), || to_hex(&now))));
    assert_eq!(once[..HEADER], now[..HEADER], "{name}");
    shelf.put_bytes(key, now).await.unwrap();
    let now = frames(shelf, kind, key).await;
    shelf.put_bytes(key, once.clone()).await.unwrap();
    assert_eq!(frames(shelf, kind, key).await, now, "{name}");
    frozen(&format!("{name}-frames.hex"), &now.iter().map(|frame| to_hex(frame) + "\n").collect::<String>());
    let expected = Expected { kind, key, reference: None };
    let opened = open_end(&shelf.store, &shelf.seal, expected, 64).await.unwrap().opened;
    ObjectRef { key: key.to_owned(), size: once.len() as u64, digest: digest_text(opened.table.digest()) }
}

/// Bytes that do not compress.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(&mut next).take(count).collect()
}

fn seals() -> [(&'static str, Seal); 2] {
    [("plain", Seal::Plain), ("sealed", keyed())]
}

#[tokio::test]
async fn containers() {
    for (word, seal) in seals() {
        let (shelf, key) = (shelf(seal), "shards/orders/packs/00000000000000000007-000000000001");
        let mut encoder = Encoder::new(ObjectKind::Pack, key, &shelf.seal).unwrap();
        encoder.frame(&noise(100)).unwrap();
        encoder.frame(&[0; BLOCK]).unwrap();
        frozen_object(&shelf, &format!("object-{word}"), ObjectKind::Pack, key, encoder.finish().0).await;
        let key = "shards/orders/packs/00000000000000000007-000000000002";
        let (bytes, _) = Encoder::new(ObjectKind::Pack, key, &shelf.seal).unwrap().finish();
        frozen_object(&shelf, &format!("object-empty-{word}"), ObjectKind::Pack, key, bytes).await;
    }
}

#[tokio::test]
async fn extents() {
    let pack =
        |number| Pack { id: PackId { claim: 7, number }, size: 900 + number, digest: [number as u8; 16] };
    let place = |pack, block| Place::Pack { pack, block };
    let all = [
        Extent { file: 0, first: 0, count: 300, place: place(0, 1) },
        Extent { file: 0, first: 300, count: 2, place: Place::Zero },
        Extent { file: 2, first: 0, count: 1, place: place(1, 0) },
    ];
    for (word, seal) in seals() {
        let (shelf, key) = (shelf(seal), "shards/orders/backups/00000000000000000007-1/extents");
        let mut writer = ExtentsWriter::new(key, &shelf.seal).unwrap();
        for (nth, number) in [1, 0x1_0000_0002].into_iter().enumerate() {
            assert_eq!(writer.number(PackId { claim: 7, number }) as usize, nth);
        }
        all.iter().for_each(|extent| writer.push(*extent).unwrap());
        let (bytes, _) = writer.finish(&[pack(1), pack(0x1_0000_0002)]).unwrap();
        let reference =
            frozen_object(&shelf, &format!("extents-{word}"), ObjectKind::Extents, key, bytes).await;
        let read = Extents::open(&shelf, &reference, Ends::Both).await.unwrap();
        assert_eq!(read.packs, [pack(1), pack(0x1_0000_0002)]);
        let mut extents = read.read(vec![302, 0, 1]);
        for extent in all {
            assert_eq!(extents.next().await.unwrap(), Some(extent));
        }
        assert_eq!(extents.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn fingerprints() {
    for (word, seal) in seals() {
        let (shelf, key) = (shelf(seal), "shards/orders/backups/00000000000000000007-1/fingerprints");
        let prints = [shelf.seal.fingerprint(&[0; BLOCK]), shelf.seal.fingerprint(&noise(BLOCK))];
        let mut writer = FingerprintsWriter::new(key, &shelf.seal).unwrap();
        prints.iter().for_each(|print| writer.push(print).unwrap());
        let (bytes, _) = writer.finish().unwrap();
        let name = format!("fingerprints-{word}");
        let reference = frozen_object(&shelf, &name, ObjectKind::Fingerprints, key, bytes).await;
        let mut read = FingerprintsReader::open(&shelf, &reference, 2, Ends::Both).await.unwrap();
        for print in prints {
            assert_eq!(read.next().await.unwrap(), print);
        }
    }
}
