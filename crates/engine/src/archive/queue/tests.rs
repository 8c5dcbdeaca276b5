#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

const PACE: Duration = Duration::from_millis(400);

fn server() -> ServerUuid {
    "aaaaaaaa-0000-4000-8000-000000000000".parse().unwrap()
}

fn transaction(start: u64, end: u64, number: u64, at: Duration) -> Piece {
    let mut piece = Piece { end, ..Piece::begin(start, GtidSet::new()) };
    let gtid = format!("aaaaaaaa-0000-4000-8000-000000000000:{number}").parse().unwrap();
    piece.transaction(&gtid, None, at);
    piece
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
        hash: [0; 32],
    }
}

fn taken(work: Work) -> Piece {
    match work {
        Work::Tail { piece, .. } => piece,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_comes_together_is_archived_together_and_then_replaced() {
    let queue = Queue::default();
    let at = Duration::from_secs(5);
    queue.begin(server(), "binlog.000001", 0, "spool".into());
    assert!(matches!(queue.work(at, PACE), Work::None));
    queue.publish(transaction(0, 10, 1, at));
    queue.publish(transaction(10, 30, 2, at + PACE / 2));
    let Work::Until(due) = queue.work(at, PACE) else { panic!("it waits for others") };
    assert_eq!(due, at + PACE);
    let piece = taken(queue.work(due, PACE));
    assert_eq!((piece.start, piece.end, piece.transactions), (0, 30, 2));
    assert_eq!(queue.oldest(), Some(at), "it is not archived yet");
    // The store may have it: what comes now is another piece.
    queue.put_back(piece.clone());
    queue.publish(transaction(30, 35, 4, due));
    assert_eq!(taken(queue.work(due, PACE)), piece);
    queue.tail_archived(server(), &piece);
    let piece = taken(queue.work(due + PACE, PACE));
    assert_eq!((piece.start, piece.end), (30, 35));
    queue.tail_archived(server(), &piece);
    assert_eq!((queue.passed().archived, queue.oldest()), (3, None));

    // The rest of a complete file is archived at once, then the segment takes the place of all.
    queue.seal(segment(40), transaction(35, 40, 3, due));
    let piece = taken(queue.work(due, PACE));
    assert!(!queue.is_drained());
    queue.tail_archived(server(), &piece);
    assert!(matches!(queue.work(due, PACE), Work::Replace { .. }));
    assert!(!queue.is_drained());
    queue.replaced();
    assert!(queue.is_drained());
}

#[test]
fn a_file_of_which_nothing_is_archived_is_archived_as_a_whole() {
    let queue = Queue::default();
    queue.begin(server(), "binlog.000001", 0, "spool".into());
    queue.seal(segment(40), transaction(0, 40, 1, Duration::ZERO));
    assert!(matches!(queue.work(Duration::ZERO, PACE), Work::Seal { .. }));
    queue.sealed(&segment(40));
    assert!(queue.is_drained());
    assert_eq!(queue.passed().archived, 1);
    // What was begun and never sealed is void, and nothing of it is waited for.
    queue.begin(server(), "binlog.000002", 0, "spool".into());
    assert!(queue.is_drained());
}

#[test]
fn what_comes_without_a_pause_is_archived_as_a_whole_unless_it_takes_long() {
    let queue = Queue::default();
    queue.begin(server(), "binlog.000001", 0, "spool".into());
    queue.flows(true);
    queue.publish(transaction(0, PIECE, 1, Duration::ZERO));
    queue.publish(transaction(PIECE, 2 * PIECE, 2, Duration::ZERO));
    let due = PACE * FLOWING;
    let Work::Until(until) = queue.work(PACE * 2, PACE) else { panic!("it waits for the segment's end") };
    assert_eq!(until, due);
    let piece = taken(queue.work(due, PACE));
    queue.put_back(piece);
    queue.seal(segment(2 * PIECE), Piece::begin(2 * PIECE, GtidSet::new()));
    assert!(matches!(queue.work(PACE, PACE), Work::Seal { .. }));
    queue.sealed(&segment(2 * PIECE));

    // A pause: nothing waits any longer than usual.
    queue.begin(server(), "binlog.000002", 0, "spool".into());
    queue.publish(transaction(0, 10, 3, Duration::ZERO));
    queue.flows(false);
    taken(queue.work(PACE, PACE));
}

#[test]
fn a_piece_too_large_for_memory_is_never_put_by_itself() {
    let queue = Queue::default();
    queue.hurry();
    queue.begin(server(), "binlog.000001", 0, "spool".into());
    queue.publish(transaction(0, 10, 1, Duration::ZERO));
    let piece = taken(queue.work(Duration::ZERO, PACE));
    queue.tail_archived(server(), &piece);
    let end = 10 + (1 << 30);
    queue.seal(segment(end), transaction(10, end, 2, Duration::ZERO));
    assert!(matches!(queue.work(Duration::ZERO, PACE), Work::Seal { .. }));
    queue.sealed(&segment(end));
    assert_eq!(queue.passed().archived, 2);
}

fn published(queue: &Queue, start: u64, number: u64) -> Piece {
    let piece = transaction(start, start + 10, number, Duration::ZERO);
    queue.publish(piece.clone());
    piece
}

#[test]
fn what_was_given_up_is_never_archived_made_safe_or_counted() {
    let queue = Queue::default();
    queue.hurry();
    queue.watch_syncs();
    queue.begin(server(), "binlog.000001", 0, "one".into());
    let piece = published(&queue, 0, 1);
    taken(queue.work(PACE, PACE));
    queue.tail_archived(server(), &piece);
    queue.rest();
    assert_eq!(queue.take_unsynced().0.len(), 1);
    queue.synced(1);
    published(&queue, 10, 2);
    queue.give_up(Fault::failed("gone"));
    published(&queue, 20, 3);
    assert!(matches!(queue.work(PACE, PACE), Work::None));
    assert!(queue.take_unsynced().0.is_empty());
    assert!(!queue.is_drained(), "what was given up is not archived");
    assert_eq!((queue.bytes(), queue.is_at_work()), (0, false));
    assert_eq!(queue.begin_again(), [PathBuf::from("one")]);
    assert_eq!(queue.passed(), Passed { published: 1, synced: 1, archived: 1 });
    assert!(queue.given_up().is_none() && queue.is_drained());
    // It comes again from the source.
    queue.begin(server(), "binlog.000001", 10, "two".into());
    let piece = published(&queue, 10, 2);
    assert_eq!(taken(queue.work(PACE, PACE)), Piece { offered: true, ..piece });
}

#[test]
fn pieces_of_a_file_that_was_begun_again_are_archived_before_it() {
    let queue = Queue::default();
    queue.hurry();
    queue.begin(server(), "binlog.000001", 0, "one".into());
    let first = published(&queue, 0, 1);
    published(&queue, 10, 2);
    let taken_first = taken(queue.work(PACE, PACE));
    assert_eq!((taken_first.start, taken_first.end), (0, 20), "{first:?}");
    queue.begin(server(), "binlog.000001", 0, "two".into());
    // The store did not take it: it is still the first file's.
    queue.put_back(taken_first);
    let Work::Tail { path, piece, .. } = queue.work(PACE, PACE) else { panic!("a piece waits") };
    assert_eq!(path, PathBuf::from("one"));
    queue.tail_archived(server(), &piece);
    published(&queue, 0, 1);
    let Work::Tail { path, .. } = queue.work(PACE, PACE) else { panic!("a piece waits") };
    assert_eq!(path, PathBuf::from("two"));
}
