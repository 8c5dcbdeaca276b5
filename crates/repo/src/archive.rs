//! Archive of one shard: its binlog in segments, as a journal of numbered entries that are created
//! and never overwritten.
//!
//! An entry is one object: a tail segment with its bytes, or a record that a segment was sealed, a
//! timeline begun, the archive lease acquired, or the older entries compacted into an index. The
//! archiver creates the number after the newest it knows. Every lease is an entry too, so a
//! superseded archiver finds its next number taken, and has stored nothing: each put is its own
//! fence.

mod archive_index;
mod compaction;
mod entry;
#[cfg(test)]
mod frozen;
mod horizon;
mod index;
mod journal;
mod prune;
mod reader;
mod rebuild_index;
mod segment_bytes;
mod segment_reader;
mod stored_segment;
mod timeline_source;
mod trailer;
mod verify;
mod writer;

pub(crate) use prune::prune_archive;
pub use prune::{ArchivePrunePlan, ArchiveView};
pub use reader::ArchiveReader;
pub use rebuild_index::IndexRepair;
pub(crate) use rebuild_index::{apply as rebuild, plan as plan_rebuild};
pub use segment_bytes::SegmentBytes;
pub use timeline_source::TimelineSource;
pub use verify::ArchiveVerification;
pub(crate) use writer::acquire_archive_lease;
pub use writer::{ArchiveWriter, LostEntry, LostSegment};
