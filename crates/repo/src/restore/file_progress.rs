//! Progress of a restore: the written windows, and the files that they complete.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use backstop_types::error::Result;

use super::windows::{PackFetch, RestoreWindows};
use crate::block_extents::BLOCK_BYTES;
use crate::restore_checkpoint::RestoreCheckpoint;

/// Complete windows, and the files that they complete.
#[derive(Default)]
pub(super) struct FileProgress {
    waiting: VecDeque<PackFetch>,
    /// Incomplete windows: for each, the pieces left, the file it ends in, and its blocks.
    open: BTreeMap<u64, (usize, usize, u64)>,
    complete_files: usize,
    blocks: u64,
}

impl FileProgress {
    pub(super) async fn next_fetch(
        &mut self,
        windows: &mut RestoreWindows<'_>,
        done: &RestoreCheckpoint,
    ) -> Result<Option<PackFetch>> {
        while self.waiting.is_empty() {
            let Some(window) = windows.next(done).await? else { return Ok(None) };
            self.open.insert(window.number, (window.fetches.len(), window.ends_in, window.blocks));
            self.waiting.extend(window.fetches);
        }
        Ok(self.waiting.pop_front())
    }

    /// Records that a piece of a window is written, and returns the files that it completes.
    pub(super) fn settle(&mut self, window: u64) -> Range<usize> {
        if let Some((left, ..)) = self.open.get_mut(&window) {
            *left -= 1;
        }
        let from = self.complete_files;
        while let Some(entry) = self.open.first_entry() {
            let (left, ends_in, blocks) = *entry.get();
            if left > 0 {
                break;
            }
            entry.remove();
            self.complete_files = ends_in;
            self.blocks += blocks;
        }
        from..self.complete_files
    }

    /// Returns the files that were not complete before, once everything is written. Returns each
    /// file once.
    pub(super) fn rest(&mut self, files: usize) -> Range<usize> {
        std::mem::replace(&mut self.complete_files, files)..files
    }

    pub(super) fn passed(&self, total: u64) -> u64 {
        (self.blocks * BLOCK_BYTES as u64).min(total)
    }
}
