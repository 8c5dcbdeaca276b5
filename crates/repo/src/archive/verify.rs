//! Checking an archive: every object that it names, and every byte if that is wanted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop_binlog::PieceCheck;
use backstop_model::archive::{Archive, ArchiveDamage, ArchivedSegment, SegmentState};
use backstop_model::fault::{Fault, Result};
use backstop_model::progress::{Progress, Unit};
use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;

use super::reader::{ArchiveReader, lost};
use super::{bytes, contents};
use crate::object::{Ends, Expected, FRAME, ObjectFault, ObjectKind, ObjectResult};
use crate::{Depth, ObjectRef, OnProgress};

/// Pieces that are looked at together, and that are read together.
const LOOKS: usize = 32;
const READS: usize = 4;

/// What verifying an archive found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveVerified {
    /// Pieces looked at.
    pub segments: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// What cannot be used, each with the transactions and moments that are lost with it, if they are known.
    pub damaged: Vec<ArchiveDamage>,
}

/// Checks every piece of an archive.
pub(crate) async fn verify(
    reader: &ArchiveReader,
    depth: Depth,
    progress: OnProgress<'_>,
) -> Result<ArchiveVerified> {
    let archive = reader.sized().await?;
    let total = archive.segments.iter().map(ArchivedSegment::size).sum();
    let (done, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let damaged = Mutex::new(archive.damaged.clone());
    let at_once = if depth == Depth::Content { READS } else { LOOKS };
    let segments = archive.segments.clone();
    let (damage, read_so_far, looked) = (&damaged, &read, &done);
    let looks = segments.into_iter().map(|segment| async move {
        let looks = match depth {
            Depth::Objects => look(reader, &segment).await,
            Depth::Content => content(reader, &segment, read_so_far).await,
        };
        let size = segment.size();
        match looks {
            Ok(()) => {}
            Err(ObjectFault::Store(fault)) => return Err(fault),
            Err(fault) => note(reader, segment, fault, damage).await?,
        }
        let done = looked.fetch_add(size, Ordering::Relaxed) + size;
        progress(Progress { done, total: Some(total), unit: Unit::Bytes });
        Ok::<_, Fault>(())
    });
    let all: Vec<()> = futures::stream::iter(looks).buffer_unordered(at_once).try_collect().await?;
    let mut damaged = damaged.into_inner().unwrap_or_default();
    damaged.sort_by(|one, other| one.object.cmp(&other.object));
    let segments = all.len() as u64 + (archive.damaged.len() as u64);
    Ok(ArchiveVerified { segments, bytes_read: read.into_inner(), damaged })
}

/// The object is what was stored, by its ends.
async fn look(reader: &ArchiveReader, segment: &ArchivedSegment) -> ObjectResult<()> {
    let kind = match segment.state {
        SegmentState::Tail => ObjectKind::Entry,
        SegmentState::Sealed => ObjectKind::Segment,
    };
    let reference =
        ObjectRef { key: segment.object.clone(), size: segment.stored_bytes, digest: segment.digest.clone() };
    let expected = Expected::referenced(kind, &reference);
    reader.journal.shelf.open(expected, Ends::Both).await.map(drop)
}

async fn content(reader: &ArchiveReader, segment: &ArchivedSegment, read: &AtomicU64) -> ObjectResult<()> {
    look(reader, segment).await?;
    let sound = sound(reader, segment).await;
    read.fetch_add(segment.size(), Ordering::Relaxed);
    sound
}

/// Every byte of a piece is what was stored, and what a source sent: its events are whole, with the right checksums.
pub(super) async fn sound(reader: &ArchiveReader, segment: &ArchivedSegment) -> ObjectResult<()> {
    let mut bytes = bytes::open(&reader.journal.shelf, segment).await?;
    let mut check = PieceCheck::new(segment.start, segment.end);
    let (mut part, mut wrong) = (vec![0; FRAME], None);
    let copied = loop {
        match bytes.read(&mut part).await {
            Ok(0) => break Ok(()),
            // What was stored is read to its end, whatever is in it.
            Ok(size) if wrong.is_none() => wrong = check.update(part.get(..size).unwrap_or_default()).err(),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    copied.map_err(|error| ObjectFault::damaged(&segment.object, cause(&error, &segment.object)))?;
    let found = match wrong {
        Some(fault) => Err(fault),
        None => check.finish(),
    };
    let lacks = found.map(|found| segment.gtids.subtract(&found));
    match lacks {
        Ok(lacks) if lacks.is_empty() => Ok(()),
        Ok(lacks) => {
            Err(ObjectFault::damaged(&segment.object, format!("transactions {lacks} are not in it")))
        }
        Err(fault) => {
            let wrong = format!("it holds what was not in the source's binlog: {}", fault.message);
            Err(ObjectFault::damaged(&segment.object, wrong))
        }
    }
}

/// The reason alone: which object it is stands beside it.
fn cause(error: &std::io::Error, key: &str) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("read {key}: it is damaged: ")).unwrap_or(&text).to_owned()
}

async fn note(
    reader: &ArchiveReader,
    segment: ArchivedSegment,
    fault: ObjectFault,
    damaged: &Mutex<Vec<ArchiveDamage>>,
) -> Result<()> {
    let wrong = match fault {
        ObjectFault::Missing { .. } if replaced(&reader.contents().await?, &segment) => return Ok(()),
        ObjectFault::Missing { .. } => "it is missing".to_owned(),
        ObjectFault::Damaged { wrong, .. } => wrong,
        ObjectFault::Store(fault) => return Err(fault),
    };
    if let Ok(mut damaged) = damaged.lock() {
        damaged.push(lost(segment, wrong));
    }
    Ok(())
}

/// True if a sealed segment took a tail's place meanwhile, or it was dropped.
fn replaced(archive: &Archive, segment: &ArchivedSegment) -> bool {
    segment.state == SegmentState::Tail
        && archive
            .segments
            .iter()
            .any(|other| other.state == SegmentState::Sealed && contents::contains(other, segment))
}
