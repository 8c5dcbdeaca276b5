//! Which windows are written, and with them which files are complete.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use backstop_model::fault::Result;

use super::windows::{Piece, Windows};
use crate::done_list::DoneList;
use crate::extents::BLOCK;

/// Which windows are complete, and with them which files.
#[derive(Default)]
pub(super) struct Ledger {
    waiting: VecDeque<Piece>,
    /// Of each window that is not complete: pieces left, the file it ends in, its blocks.
    open: BTreeMap<u64, (usize, usize, u64)>,
    complete_files: usize,
    blocks: u64,
}

impl Ledger {
    pub(super) async fn next_piece(
        &mut self,
        windows: &mut Windows<'_>,
        done: &DoneList,
    ) -> Result<Option<Piece>> {
        while self.waiting.is_empty() {
            let Some(window) = windows.next(done).await? else { return Ok(None) };
            self.open.insert(window.number, (window.pieces.len(), window.ends_in, window.blocks));
            self.waiting.extend(window.pieces);
        }
        Ok(self.waiting.pop_front())
    }

    /// A piece of a window is written: the files that are complete with it.
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

    /// Everything is written: the files that were not complete before. They are told once.
    pub(super) fn rest(&mut self, files: usize) -> Range<usize> {
        std::mem::replace(&mut self.complete_files, files)..files
    }

    pub(super) fn passed(&self, total: u64) -> u64 {
        (self.blocks * BLOCK as u64).min(total)
    }
}
