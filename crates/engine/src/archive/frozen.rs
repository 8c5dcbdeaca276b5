//! Compares the spool's files and journals with `tests/frozen`: their bytes must not change.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use backstop_binlog::SegmentSink;

use super::queue::{AckPosition, Queue};
use super::sample_binlog::{SAMPLE_FILE, chunk, server, transactions};
use super::spool::Spool;
use super::spool_journal::{journal_path, note_line, read_spool};
use crate::disk::failing::FailingDisk;
use crate::disk::{Disk, HostDisk};
use crate::fixtures::{frozen, kept};

#[tokio::test]
async fn spool_file_names_keep_stored_form() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, disk) = (Arc::new(Queue::default()), Arc::new(FailingDisk::default()));
    let mut spool = Spool::new(dir.path(), Arc::clone(&queue), disk as Arc<dyn Disk>).unwrap();
    let mut text = String::new();
    for start in [700, 700, 700, 5_000_000_000_000] {
        spool.begin(server(), SAMPLE_FILE, start).await.unwrap();
        let path = queue.newest_file().unwrap();
        for path in [&path, &journal_path(&path)] {
            text.push_str(&format!("{}\n", path.strip_prefix(dir.path()).unwrap().display()));
        }
    }
    frozen("spool-files.txt", &text);
}

#[test]
fn spool_journal_lines_keep_stored_form() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{}.{SAMPLE_FILE}.000000000700", server()));
    let bytes = transactions(700, 1, 2);
    let mut piece = chunk(700, &bytes, "A:1-2");
    let at = AckPosition { source: server(), file: SAMPLE_FILE.to_owned(), offset: piece.end };
    piece.previous = super::sample_binlog::set("A:1");
    let without = note_line(&at, &piece, 0, &blake3::hash(&bytes)).unwrap();
    let moment = "2026-11-23T02:21:33.25Z".parse().unwrap();
    piece.committed = Some((moment, moment));
    let whole = note_line(&at, &piece, 0, &blake3::hash(&bytes)).unwrap();
    frozen("spool-notes.txt", &String::from_utf8([whole, without].concat()).unwrap());

    let old = format!(
        "{{\"source\":\"{}\",\"file\":\"{SAMPLE_FILE}\",\"start\":700,\"end\":{},\"previous\":\"\",\"gtids\":\"{}:1-2\",\"committed\":null}}\n",
        server(),
        piece.end,
        server()
    );
    for (name, text) in [("spool-notes.txt", String::new()), ("spool-notes-first-version.txt", old)] {
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(journal_path(&path), kept(name, || text)).unwrap();
        let noted = read_spool(&HostDisk, dir.path()).unwrap();
        assert!(noted.damage.is_none() && !noted.chunks.is_empty(), "{name}");
        for left in &noted.chunks {
            let segment = &left.segment;
            assert_eq!((segment.source, segment.file.as_str(), segment.start), (server(), SAMPLE_FILE, 700));
            assert_eq!((segment.end, &segment.gtids), (piece.end, &piece.gtids));
            assert_eq!(left.bytes(&HostDisk).unwrap(), bytes);
        }
        if name == "spool-notes.txt" {
            assert_eq!(
                noted.chunks.iter().filter(|left| left.segment.committed == piece.committed).count(),
                1
            );
            assert!(noted.chunks.iter().all(|left| left.segment.previous == piece.previous));
        }
    }
}
