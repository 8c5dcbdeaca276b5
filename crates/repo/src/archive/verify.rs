//! Checks an archive: every object that it names, and optionally every byte.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop_binlog::SegmentCheck;
use backstop_types::archive::{Archive, ArchiveDamage, ArchivedSegment, SegmentState};
use backstop_types::error::{Error, Result};
use backstop_types::progress::{Progress, ProgressUnit};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;

use super::reader::{ArchiveReader, lost_segment};
use super::{index, segment_reader};
use crate::object::{ExpectedObject, MAX_FRAME_BYTES, ObjectError, ObjectKind, ObjectResult, ReadHeader};
use crate::{DamageRecord, ObjectDamage, ObjectRef, OnProgress, VerifyDepth, known_damage};

/// Number of segments whose ends are checked at a time.
const PARALLEL_HEADS: usize = 32;
const PARALLEL_READS: usize = 4;

/// Result of verifying an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveVerification {
    /// Number of segments checked.
    pub segments: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Damage, each item with the transactions and times that are lost with it, if known.
    pub damaged: Vec<ArchiveDamage>,
}

impl ArchiveReader {
    /// Checks every segment. Damage is part of the report, not an error.
    ///
    /// # Errors
    /// Returns an error only if the check itself cannot run.
    pub async fn verify(&self, depth: VerifyDepth, progress: OnProgress<'_>) -> Result<ArchiveVerification> {
        let archive = self.sized().await?;
        let total = archive.segments.iter().map(|segment| segment.size()).sum();
        let (done, read) = (AtomicU64::new(0), AtomicU64::new(0));
        let damaged = Mutex::new(archive.damaged.clone());
        let at_once = if depth == VerifyDepth::Content { PARALLEL_READS } else { PARALLEL_HEADS };
        let segments = archive.segments.clone();
        let (damage, read_so_far, looked) = (&damaged, &read, &done);
        let looks = segments.into_iter().map(|segment| async move {
            let looks = match depth {
                VerifyDepth::Objects => check_ends(self, &segment).await,
                VerifyDepth::Content => content(self, &segment, read_so_far).await,
            };
            let size = segment.size();
            match looks {
                Ok(()) => {}
                Err(ObjectError::Store(error)) => return Err(error),
                Err(error) => note(self, segment, error, damage).await?,
            }
            let done = looked.fetch_add(size, Ordering::Relaxed) + size;
            progress(Progress { done, total: Some(total), unit: ProgressUnit::Bytes });
            Ok::<_, Error>(())
        });
        let all: Vec<()> = futures::stream::iter(looks).buffer_unordered(at_once).try_collect().await?;
        let mut damaged = damaged.into_inner().unwrap_or_default();
        damaged.sort_by(|one, other| one.object.cmp(&other.object));
        let segments = all.len() as u64 + (archive.damaged.len() as u64);
        Ok(ArchiveVerification { segments, bytes_read: read.into_inner(), damaged })
    }

    /// Records the findings of a verification for all readers.
    ///
    /// # Errors
    /// Returns the errors of [`ShardReader::note`](crate::ShardReader::note).
    pub async fn note(
        &self,
        report: &ArchiveVerification,
        depth: VerifyDepth,
        at: DateTime<Utc>,
    ) -> Result<DamageRecord> {
        let damaged = report.damaged.iter().map(|damage| ObjectDamage {
            object: damage.object.clone(),
            wrong: damage.wrong.clone(),
            backups: Vec::new(),
        });
        let damaged: Vec<ObjectDamage> = damaged.collect();
        known_damage::record_damage(&self.journal.store, &self.journal.keys.found(), &damaged, depth, at)
            .await
    }
}

/// Checks by its ends that the object is the stored one.
async fn check_ends(reader: &ArchiveReader, segment: &ArchivedSegment) -> ObjectResult<()> {
    let kind = match segment.state {
        SegmentState::Tail => ObjectKind::Entry,
        SegmentState::Sealed => ObjectKind::Segment,
    };
    let reference =
        ObjectRef { key: segment.object.clone(), size: segment.stored_bytes, digest: segment.digest.clone() };
    let expected = ExpectedObject::referenced(kind, &reference);
    reader.journal.store.open(expected, ReadHeader::Both).await.map(drop)
}

async fn content(reader: &ArchiveReader, segment: &ArchivedSegment, read: &AtomicU64) -> ObjectResult<()> {
    check_ends(reader, segment).await?;
    let sound = verify_segment(reader, segment).await;
    read.fetch_add(segment.size(), Ordering::Relaxed);
    sound
}

/// Checks that every byte of a segment is as stored and as the source sent it: its events are
/// whole, with the right checksums.
pub(super) async fn verify_segment(reader: &ArchiveReader, segment: &ArchivedSegment) -> ObjectResult<()> {
    let mut bytes = segment_reader::open_segment(&reader.journal.store, segment).await?;
    let mut check = SegmentCheck::new(segment.start, segment.end);
    let (mut part, mut wrong) = (vec![0; MAX_FRAME_BYTES], None);
    let copied = loop {
        match bytes.read(&mut part).await {
            Ok(0) => break Ok(()),
            // The object is read to its end, whatever its content.
            Ok(size) if wrong.is_none() => wrong = check.update(part.get(..size).unwrap_or_default()).err(),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    copied.map_err(|error| ObjectError::damaged(&segment.object, cause(&error, &segment.object)))?;
    let found = match wrong {
        Some(failure) => Err(failure),
        None => check.finish(),
    };
    let lacks = found.map(|found| segment.gtids.subtract(&found));
    match lacks {
        Ok(lacks) if lacks.is_empty() => Ok(()),
        Ok(lacks) => Err(ObjectError::damaged(&segment.object, format!("it lacks transactions {lacks}"))),
        Err(failure) => {
            let wrong = format!("it holds content that was not in the source's binlog: {}", failure.message);
            Err(ObjectError::damaged(&segment.object, wrong))
        }
    }
}

/// Returns the reason alone: the report names the object separately.
fn cause(error: &std::io::Error, key: &str) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("cannot read {key}: it is damaged: ")).unwrap_or(&text).to_owned()
}

async fn note(
    reader: &ArchiveReader,
    segment: ArchivedSegment,
    error: ObjectError,
    damaged: &Mutex<Vec<ArchiveDamage>>,
) -> Result<()> {
    let wrong = match error {
        ObjectError::Missing { .. } if was_replaced(&reader.contents().await?, &segment) => return Ok(()),
        ObjectError::Missing { .. } => "it is missing".to_owned(),
        ObjectError::Damaged { wrong, .. } => wrong,
        ObjectError::Store(error) => return Err(error),
    };
    if let Ok(mut damaged) = damaged.lock() {
        damaged.push(lost_segment(segment, wrong));
    }
    Ok(())
}

/// Returns true if a sealed segment replaced a tail in between, or if the segment was dropped.
fn was_replaced(archive: &Archive, segment: &ArchivedSegment) -> bool {
    segment.state == SegmentState::Tail
        && archive
            .segments
            .iter()
            .any(|other| other.state == SegmentState::Sealed && index::contains_tail(other, segment))
}
