//! The spool's files and their notes stay what they are, byte for byte: `tests/frozen`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use backstop_binlog::SegmentSink;

use super::disk::Disk;
use super::disk::failing::FailingDisk;
use super::journal::{line, noted, path_of};
use super::queue::{At, Queue};
use super::sample::{FILE, piece, server, transactions};
use super::spool::Spool;
use crate::fixtures::{frozen, kept};

#[tokio::test]
async fn names_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, disk) = (Arc::new(Queue::default()), Arc::new(FailingDisk::default()));
    let mut spool = Spool::new(dir.path(), Arc::clone(&queue), disk as Arc<dyn Disk>).unwrap();
    let mut text = String::new();
    for start in [700, 700, 700, 5_000_000_000_000] {
        spool.begin(server(), FILE, start).await.unwrap();
        let path = queue.newest_file().unwrap();
        for path in [&path, &path_of(&path)] {
            text.push_str(&format!("{}\n", path.strip_prefix(dir.path()).unwrap().display()));
        }
    }
    frozen("spool-files.txt", &text);
}

#[test]
fn notes_of_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{}.{FILE}.000000000700", server()));
    let bytes = transactions(700, 1, 2);
    let mut piece = piece(700, &bytes, "A:1-2");
    let at = At { source: server(), file: FILE.to_owned(), offset: piece.end };
    piece.previous = super::sample::set("A:1");
    let without = line(&at, &piece, 0, &blake3::hash(&bytes)).unwrap();
    let moment = "2026-11-23T02:21:33.25Z".parse().unwrap();
    piece.committed = Some((moment, moment));
    let whole = line(&at, &piece, 0, &blake3::hash(&bytes)).unwrap();
    frozen("spool-notes.txt", &String::from_utf8([whole, without].concat()).unwrap());

    let old = format!(
        "{{\"source\":\"{}\",\"file\":\"{FILE}\",\"start\":700,\"end\":{},\"previous\":\"\",\"gtids\":\"{}:1-2\",\"committed\":null}}\n",
        server(),
        piece.end,
        server()
    );
    for (name, text) in [("spool-notes.txt", String::new()), ("spool-notes-first-version.txt", old)] {
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(path_of(&path), kept(name, || text)).unwrap();
        let noted = noted(dir.path()).unwrap();
        assert!(noted.damage.is_none() && !noted.pieces.is_empty(), "{name}");
        for left in &noted.pieces {
            let segment = &left.segment;
            assert_eq!((segment.source, segment.file.as_str(), segment.start), (server(), FILE, 700));
            assert_eq!((segment.end, &segment.gtids), (piece.end, &piece.gtids));
            assert_eq!(left.bytes().unwrap(), bytes);
        }
        if name == "spool-notes.txt" {
            assert_eq!(
                noted.pieces.iter().filter(|left| left.segment.committed == piece.committed).count(),
                1
            );
            assert!(noted.pieces.iter().all(|left| left.segment.previous == piece.previous));
        }
    }
}
