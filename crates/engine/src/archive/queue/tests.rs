#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

const PACE: Duration = Duration::from_millis(400);

fn server() -> ServerUuid {
    "aaaaaaaa-0000-4000-8000-000000000000".parse().unwrap()
}

fn transaction(start: u64, end: u64, number: u64, at: Duration) -> Chunk {
    let mut chunk = Chunk { end, ..Chunk::begin(start, GtidSet::new()) };
    let gtid = format!("aaaaaaaa-0000-4000-8000-000000000000:{number}").parse().unwrap();
    chunk.transaction(&gtid, None, at);
    chunk
}

fn segment(end: u64) -> Segment {
    Segment {
        source: server(),
        file: "binlog.000001".to_owned(),
        start: 0,
        end,
        previous: GtidSet::new(),
        gtids: GtidSet::new(),
        committed: None,
        hash: backstop_types::archive::SegmentHash([0; 32]),
    }
}

fn taken(work: UploadWork) -> Chunk {
    match work {
        UploadWork::Partial { chunk, .. } => chunk,
        other => panic!("{other:?}"),
    }
}

#[test]
fn transactions_within_pace_share_a_chunk_until_segment_is_full() {
    let queue = Queue::default();
    let at = Duration::from_secs(5);
    queue.begin_segment(server(), "binlog.000001", 0, "spool".into());
    assert!(matches!(queue.next_work(at, PACE), UploadWork::None));
    queue.publish(transaction(0, 10, 1, at));
    queue.publish(transaction(10, 30, 2, at + PACE / 2));
    let UploadWork::Until(due) = queue.next_work(at, PACE) else { panic!("it waits for others") };
    assert_eq!(due, at + PACE);
    let chunk = taken(queue.next_work(due, PACE));
    assert_eq!((chunk.start, chunk.end, chunk.transactions), (0, 30, 2));
    assert_eq!(queue.oldest_waiting(), Some(at), "it is not archived yet");
    // The store may have it: later transactions go into another chunk.
    queue.put_back(chunk.clone());
    queue.publish(transaction(30, 35, 4, due));
    assert_eq!(taken(queue.next_work(due, PACE)), chunk);
    queue.partial_archived(server(), &chunk);
    let chunk = taken(queue.next_work(due + PACE, PACE));
    assert_eq!((chunk.start, chunk.end), (30, 35));
    queue.partial_archived(server(), &chunk);
    assert_eq!((queue.counts().archived, queue.oldest_waiting()), (3, None));

    // The rest of a complete file is archived without delay, then the full segment replaces all of
    // it.
    queue.finish_segment(segment(40), transaction(35, 40, 3, due));
    let chunk = taken(queue.next_work(due, PACE));
    assert!(!queue.is_drained());
    queue.partial_archived(server(), &chunk);
    assert!(matches!(queue.next_work(due, PACE), UploadWork::Replace { .. }));
    assert!(!queue.is_drained());
    queue.replaced();
    assert!(queue.is_drained());
}

#[test]
fn sealed_file_without_archived_chunk_is_stored_as_segment() {
    let queue = Queue::default();
    queue.begin_segment(server(), "binlog.000001", 0, "spool".into());
    queue.finish_segment(segment(40), transaction(0, 40, 1, Duration::ZERO));
    assert!(matches!(queue.next_work(Duration::ZERO, PACE), UploadWork::Segment { .. }));
    queue.segment_archived(&segment(40));
    assert!(queue.is_drained());
    assert_eq!(queue.counts().archived, 1);
    // A segment that was begun and never sealed is void, and nothing of it is waited for.
    queue.begin_segment(server(), "binlog.000002", 0, "spool".into());
    assert!(queue.is_drained());
}

#[test]
fn busy_source_is_archived_by_segment_until_pace_is_exceeded() {
    let queue = Queue::default();
    queue.begin_segment(server(), "binlog.000001", 0, "spool".into());
    queue.set_busy_source(true);
    queue.publish(transaction(0, MAX_CHUNK_BYTES, 1, Duration::ZERO));
    queue.publish(transaction(MAX_CHUNK_BYTES, 2 * MAX_CHUNK_BYTES, 2, Duration::ZERO));
    let due = PACE * BUSY_SOURCE_PACE_FACTOR;
    let UploadWork::Until(until) = queue.next_work(PACE * 2, PACE) else {
        panic!("it waits for the segment's end")
    };
    assert_eq!(until, due);
    let chunk = taken(queue.next_work(due, PACE));
    queue.put_back(chunk);
    queue.finish_segment(segment(2 * MAX_CHUNK_BYTES), Chunk::begin(2 * MAX_CHUNK_BYTES, GtidSet::new()));
    assert!(matches!(queue.next_work(PACE, PACE), UploadWork::Segment { .. }));
    queue.segment_archived(&segment(2 * MAX_CHUNK_BYTES));

    // After a pause the usual delay applies.
    queue.begin_segment(server(), "binlog.000002", 0, "spool".into());
    queue.publish(transaction(0, 10, 3, Duration::ZERO));
    queue.set_busy_source(false);
    taken(queue.next_work(PACE, PACE));
}

#[test]
fn oversized_chunk_waits_for_its_segment() {
    let queue = Queue::default();
    queue.upload_at_once();
    queue.begin_segment(server(), "binlog.000001", 0, "spool".into());
    queue.publish(transaction(0, 10, 1, Duration::ZERO));
    let chunk = taken(queue.next_work(Duration::ZERO, PACE));
    queue.partial_archived(server(), &chunk);
    let end = 10 + (1 << 30);
    queue.finish_segment(segment(end), transaction(10, end, 2, Duration::ZERO));
    assert!(matches!(queue.next_work(Duration::ZERO, PACE), UploadWork::Segment { .. }));
    queue.segment_archived(&segment(end));
    assert_eq!(queue.counts().archived, 2);
}

fn published(queue: &Queue, start: u64, number: u64) -> Chunk {
    let chunk = transaction(start, start + 10, number, Duration::ZERO);
    queue.publish(chunk.clone());
    chunk
}

#[test]
fn abandoned_chunks_are_not_archived_synced_or_counted() {
    let queue = Queue::default();
    queue.upload_at_once();
    queue.track_unsynced();
    queue.begin_segment(server(), "binlog.000001", 0, "one".into());
    let chunk = published(&queue, 0, 1);
    taken(queue.next_work(PACE, PACE));
    queue.partial_archived(server(), &chunk);
    queue.set_idle();
    assert_eq!(queue.take_unsynced().0.len(), 1);
    queue.synced(1);
    published(&queue, 10, 2);
    queue.give_up(Error::failed("gone"));
    published(&queue, 20, 3);
    assert!(matches!(queue.next_work(PACE, PACE), UploadWork::None));
    assert!(queue.take_unsynced().0.is_empty());
    assert!(!queue.is_drained(), "what was given up is not archived");
    assert_eq!((queue.waiting_bytes(), queue.is_busy()), (0, false));
    assert_eq!(queue.restart(), [PathBuf::from("one")]);
    assert_eq!(queue.counts(), TransactionCounts { published: 1, synced: 1, archived: 1 });
    assert!(queue.given_up().is_none() && queue.is_drained());
    // The source sends it again.
    queue.begin_segment(server(), "binlog.000001", 10, "two".into());
    let chunk = published(&queue, 10, 2);
    assert_eq!(taken(queue.next_work(PACE, PACE)), Chunk { offered: true, ..chunk });
}

#[test]
fn chunks_of_restarted_file_are_archived_before_the_new_file() {
    let queue = Queue::default();
    queue.upload_at_once();
    queue.begin_segment(server(), "binlog.000001", 0, "one".into());
    let first = published(&queue, 0, 1);
    published(&queue, 10, 2);
    let taken_first = taken(queue.next_work(PACE, PACE));
    assert_eq!((taken_first.start, taken_first.end), (0, 20), "{first:?}");
    queue.begin_segment(server(), "binlog.000001", 0, "two".into());
    // The store did not accept it: it still belongs to the first file.
    queue.put_back(taken_first);
    let UploadWork::Partial { path, chunk, .. } = queue.next_work(PACE, PACE) else {
        panic!("a piece waits")
    };
    assert_eq!(path, PathBuf::from("one"));
    queue.partial_archived(server(), &chunk);
    published(&queue, 0, 1);
    let UploadWork::Partial { path, .. } = queue.next_work(PACE, PACE) else { panic!("a piece waits") };
    assert_eq!(path, PathBuf::from("two"));
}
