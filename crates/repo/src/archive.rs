//! The archive of one shard: its binlog in segments, kept as a journal of numbered entries that are created and never overwritten.
//!
//! An entry is one object: a piece of the tail with its bytes, or that a segment was sealed, a line begun, the archive claimed, or the
//! older entries rolled up into an index. Who archives creates the number after the newest it knows. Every claim is an entry too, so an
//! archiver that was superseded finds its next number taken, and has stored nothing: each put is its own fence.

mod compaction;
mod entry;
#[cfg(test)]
mod frozen;
mod index;
mod journal;
mod prune;
mod reader;
mod rebuild_index;
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
pub use timeline_source::TimelineSource;
pub use verify::ArchiveVerification;
pub(crate) use writer::acquire_archive_lease;
pub use writer::{ArchiveWriter, LostEntry, LostSegment};
