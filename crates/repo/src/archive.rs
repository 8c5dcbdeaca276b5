//! The archive of one shard: its binlog in segments, kept as a journal of numbered entries that are created and never overwritten.
//!
//! An entry is one object: a piece of the tail with its bytes, or that a segment was sealed, a line begun, the archive claimed, or the
//! older entries rolled up into an index. Who archives creates the number after the newest it knows. Every claim is an entry too, so an
//! archiver that was superseded finds its next number taken, and has stored nothing: each put is its own fence.

mod behind;
mod bytes;
mod contents;
mod entry;
#[cfg(test)]
mod frozen;
mod journal;
mod prune;
mod reader;
mod rebuild;
mod roll;
mod segment;
mod source;
mod verify;
mod writer;

pub(crate) use prune::prune;
pub use prune::{ArchivePrunePlan, ArchiveView};
pub use reader::ArchiveReader;
pub use rebuild::IndexRepair;
pub(crate) use rebuild::{apply as rebuild, plan as plan_rebuild};
pub use source::LineSource;
pub use verify::ArchiveVerified;
pub(crate) use writer::claim;
pub use writer::{ArchiveWriter, LostEntry, LostPiece};
