//! Compares the content of the archive's journal, indexes and horizons with fixtures byte by byte:
//! `tests/frozen`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use backstop_types::archive::{ArchivedSegment, Segment, SegmentHash, Timeline};
use uuid::Uuid;

use super::archive_index::ArchiveIndex;
use super::entry::{self, EntryKind, JournalEntry, SegmentFacts};
use super::horizon::{DroppedSegments, Horizon};
use super::journal::ArchiveJournal;
use super::stored_segment::{self, SegmentTrailer};
use crate::encryption::Cipher;
use crate::every;
use crate::fixtures::{parsed, stored};
use crate::frozen::objects::{frozen_object, noise};
use crate::frozen::{at, empty_store, keyed, reference, shard};
use crate::keys::ShardKeys;
use crate::object::ObjectKind;

fn lines() -> Vec<Timeline> {
    include_str!("../../../policy/tests/frozen/line.json").lines().map(parsed).collect()
}

fn segment_facts() -> SegmentFacts {
    let segment = Segment {
        source: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        file: "binlog.000007".into(),
        start: 4,
        end: 104,
        previous: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap(),
        gtids: "3e11fa47-71ca-11e1-9e33-c80aa9429562:6-7".parse().unwrap(),
        committed: Some((at(), at())),
        hash: SegmentHash(*blake3::hash(&noise(100)).as_bytes()),
    };
    SegmentFacts { timeline: 2, segment }
}

fn entries() -> Vec<JournalEntry> {
    let all = every!(
        EntryKind:
        EntryKind::Lease => EntryKind::Lease,
        EntryKind::Timeline(_) => EntryKind::Timeline(lines().remove(0)),
        EntryKind::Tail(_) => EntryKind::Tail(segment_facts()),
        EntryKind::Sealed { .. } => EntryKind::Sealed {
            facts: SegmentFacts { timeline: 2, segment: Segment { committed: None, ..segment_facts().segment } },
            object: reference("shards/orders/archive/segments/00000000000000000006-000000000001"),
            replaces: vec![5, 6],
        },
    );
    let entry = |what: EntryKind| JournalEntry {
        number: 7,
        lease: 6,
        nonce: Uuid::from_u128(0x1234),
        at: at(),
        shard: shard(),
        fences: what == EntryKind::Lease,
        what,
    };
    all.into_iter().map(entry).collect()
}

#[test]
fn journal_entries_keep_their_json() {
    stored("archive-entry.json", &entries());
}

#[tokio::test]
async fn stored_entries_keep_their_bytes() {
    for (word, cipher) in [("plain", Cipher::Plain), ("sealed", keyed())] {
        let store = empty_store(cipher);
        let key = ShardKeys::new(&shard(), &store.cipher).archive().entry(7);
        for entry in entries() {
            let (name, bytes) = match entry.what {
                EntryKind::Tail(_) => ("archive-tail", noise(100)),
                EntryKind::Lease => ("archive-claim", Vec::new()),
                _ => continue,
            };
            let (now, _) = entry::encode_entry(&store, &key, &entry, &bytes).unwrap();
            let reference =
                frozen_object(&store, &format!("{name}-{word}"), ObjectKind::Entry, &key, now).await;
            let read = entry::read_entry(&store, &key, 7, &shard()).await.unwrap();
            assert_eq!((read.entry, read.object), (entry, reference));
        }
    }
}

fn facts(object: String, replaces: Vec<u64>) -> SegmentTrailer {
    let number = replaces.first().copied().unwrap_or(7);
    SegmentTrailer { object, number, replaces, segment: segment_facts(), timelines: lines() }
}

#[test]
fn segment_trailers_keep_their_json() {
    let object = "shards/orders/archive/segments/00000000000000000006-000000000001";
    stored("archive-segment.json", &[facts(object.into(), vec![5, 6]), facts(object.into(), vec![])]);
}

#[tokio::test]
async fn stored_segments_keep_their_bytes() {
    for (word, cipher) in [("plain", Cipher::Plain), ("sealed", keyed())] {
        let store = empty_store(cipher);
        let keys = ShardKeys::new(&shard(), &store.cipher).archive();
        let (key, journal) =
            (keys.segment(6, 1), ArchiveJournal { store: store.clone(), keys: keys.clone(), shard: shard() });
        let facts = facts(key.clone(), vec![5, 6]);
        stored_segment::store(&journal, &facts, vec![Box::new(std::io::Cursor::new(noise(100)))])
            .await
            .unwrap();
        let now = store.bytes(&key).await.unwrap().unwrap();
        let reference =
            frozen_object(&store, &format!("archive-segment-{word}"), ObjectKind::Segment, &key, now).await;
        let read = stored_segment::find(&journal, &key).await.unwrap().unwrap();
        assert_eq!((read.facts, read.object), (facts, reference));
    }
}

#[test]
fn indexes_and_horizons_keep_their_json() {
    let segments: Vec<ArchivedSegment> =
        include_str!("../../../policy/tests/frozen/archived-segment.json").lines().map(parsed).collect();
    let index = ArchiveIndex {
        shard: shard(),
        first: 3,
        last: 9,
        timelines: lines(),
        segments,
        tails: vec![8],
        replaced: vec![2],
        unread: Vec::new(),
    };
    let unread = vec!["shards/orders/archive/segments/00000000000000000006-000000000002".to_owned()];
    stored("archive-index-rebuilt.json", &[ArchiveIndex { unread, ..index.clone() }]);
    stored("archive-index.json", &[index]);
    let recent = vec![DroppedSegments { at: at(), segments: vec![(3, 4)] }];
    let horizon = Horizon { number: 2, dropped: vec![(1, 4), (6, 6)], recent, gone: vec![(1, 5)] };
    stored("archive-horizon.json", &[horizon, Horizon::default()]);
}
