//! Groups extents by pack within windows, so that a restore reads each pack in a few large pieces
//! although the blocks of a file are in many packs.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::block_extents::{BLOCK_BYTES, BlockLocation, Extent, ExtentsReader, FRAME_BLOCKS, PackEntry};
use crate::object::ObjectResult;
use crate::restore_checkpoint::RestoreCheckpoint;

/// Number of blocks in one window: 64 MiB.
const WINDOW_BLOCKS: u64 = 4096;
/// Maximum number of plain bytes of one fetch from a pack.
const MAX_FETCH_BYTES: u64 = 8 * 1024 * 1024;
/// Number of unwanted frames between two wanted ones that are fetched with them instead of
/// splitting the request.
const MAX_GAP_FRAMES: u32 = 4;

/// Consecutive blocks to copy from a pack into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockMove {
    pub(super) file: u32,
    pub(super) to: u64,
    pub(super) from: u32,
    pub(super) count: u32,
}

/// One fetch from a pack.
#[derive(Debug)]
pub(super) struct PackFetch {
    pub(super) window: u64,
    pub(super) pack: PackEntry,
    pub(super) frames: Range<usize>,
    pub(super) moves: Vec<BlockMove>,
}

impl BlockMove {
    /// Returns the frame of the pack that the blocks begin in.
    pub(super) fn frame(&self) -> usize {
        (self.from / FRAME_BLOCKS) as usize
    }

    /// Splits the blocks at the ends of frames.
    pub(super) fn by_frame(self) -> impl Iterator<Item = BlockMove> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let now = rest.take()?;
            let (first, rest_of) = now.split(FRAME_BLOCKS - now.from % FRAME_BLOCKS);
            rest = rest_of;
            Some(first)
        })
    }

    /// Splits off this many blocks from the beginning; returns them and the rest.
    fn split(self, blocks: u32) -> (BlockMove, Option<BlockMove>) {
        if self.count <= blocks {
            return (self, None);
        }
        let rest = BlockMove {
            to: self.to + u64::from(blocks),
            from: self.from + blocks,
            count: self.count - blocks,
            ..self
        };
        (BlockMove { count: blocks, ..self }, Some(rest))
    }
}

/// Divides extents into windows and windows into fetches.
pub(super) struct RestoreWindows<'a> {
    extents: ExtentsReader,
    packs: &'a [PackEntry],
    /// Part of an extent that did not fit into the window before.
    over: Option<Extent>,
    number: u64,
}

/// Fetches of one window, and its end.
pub(super) struct RestoreWindow {
    pub(super) number: u64,
    pub(super) fetches: Vec<PackFetch>,
    /// File that the window ends in; all files before it are in this window or earlier ones.
    pub(super) ends_in: usize,
    pub(super) blocks: u64,
}

impl<'a> RestoreWindows<'a> {
    pub(super) fn new(extents: ExtentsReader, packs: &'a [PackEntry]) -> Self {
        Self { extents, packs, over: None, number: 0 }
    }

    /// Returns the next window; `None` after the last. Skips files that are complete.
    pub(super) async fn next(&mut self, done: &RestoreCheckpoint) -> ObjectResult<Option<RestoreWindow>> {
        let mut moves: BTreeMap<u32, Vec<BlockMove>> = BTreeMap::new();
        let (mut room, mut last, mut passed) = (WINDOW_BLOCKS, None, 0);
        while room > 0 {
            let extent = match self.over.take() {
                Some(extent) => extent,
                None => match self.extents.next().await? {
                    Some(extent) => extent,
                    None => break,
                },
            };
            last = Some(extent.file as usize);
            let BlockLocation::Pack { pack, block } = extent.place else {
                passed += extent.count;
                continue;
            };
            let take = extent.count.min(room);
            passed += take;
            if !done.contains(extent.file as usize) {
                let part = BlockMove { file: extent.file, to: extent.first, from: block, count: take as u32 };
                moves.entry(pack).or_default().push(part);
                room -= take;
            }
            if take < extent.count {
                self.over = Some(Extent {
                    first: extent.first + take,
                    count: extent.count - take,
                    place: BlockLocation::Pack { pack, block: block + take as u32 },
                    ..extent
                });
            }
        }
        let Some(ends_in) = last else { return Ok(None) };
        let number = self.number;
        self.number += 1;
        let mut fetches = Vec::new();
        for (pack, moves) in moves {
            fetches.extend(cut_fetches(number, self.packs[pack as usize], moves));
        }
        Ok(Some(RestoreWindow { number, fetches, ends_in, blocks: passed }))
    }
}

/// Divides the wanted blocks of one pack into fetches.
fn cut_fetches(window: u64, pack: PackEntry, mut moves: Vec<BlockMove>) -> Vec<PackFetch> {
    moves.sort_by_key(|part| part.from);
    let mut fetches: Vec<PackFetch> = Vec::new();
    for part in moves {
        let mut rest = Some(part);
        while let Some(now) = rest {
            let fetch = match fetches.pop_if(|fetch| joins(fetch, now.frame())) {
                Some(fetch) => fetch,
                None => PackFetch { window, pack, frames: now.frame()..now.frame(), moves: Vec::new() },
            };
            let (fits, over) =
                now.split((fetch.frames.start + MAX_FETCH_FRAMES) as u32 * FRAME_BLOCKS - now.from);
            fetches.push(extended(fetch, fits));
            rest = over;
        }
    }
    fetches
}

/// Number of frames in one fetch. An average suffices: it bounds memory.
const MAX_FETCH_FRAMES: usize = (MAX_FETCH_BYTES / (FRAME_BLOCKS as u64 * BLOCK_BYTES as u64)) as usize;

fn joins(fetch: &PackFetch, frame: usize) -> bool {
    frame <= fetch.frames.end + MAX_GAP_FRAMES as usize && frame < fetch.frames.start + MAX_FETCH_FRAMES
}

fn extended(mut fetch: PackFetch, part: BlockMove) -> PackFetch {
    let end = (part.from + part.count).div_ceil(FRAME_BLOCKS) as usize;
    fetch.frames.end = fetch.frames.end.max(end);
    fetch.moves.push(part);
    fetch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PackId;

    fn pack() -> PackEntry {
        PackEntry { id: PackId { lease: 1, number: 0 }, size: 0, digest: [0; 16] }
    }

    fn part(from: u32, count: u32) -> BlockMove {
        BlockMove { file: 0, to: u64::from(from) + 7, from, count }
    }

    #[test]
    fn near_blocks_are_fetched_together_and_far_ones_apart() {
        let fetches = cut_fetches(0, pack(), vec![part(500, 1), part(0, 3), part(40, 1)]);
        let frames: Vec<_> = fetches.iter().map(|fetch| fetch.frames.clone()).collect();
        assert_eq!(frames, [0..3, 31..32]);
        assert_eq!(fetches[0].moves, [part(0, 3), part(40, 1)]);
    }

    #[test]
    fn whole_pack_is_fetched_in_windows_of_bounded_size() {
        let fetches = cut_fetches(0, pack(), vec![part(0, 1024)]);
        assert!(fetches.iter().all(|fetch| fetch.frames.len() <= MAX_FETCH_FRAMES));
        let moved: u32 = fetches.iter().flat_map(|fetch| &fetch.moves).map(|part| part.count).sum();
        assert_eq!((fetches.len(), moved), (2, 1024));
    }

    #[test]
    fn moves_are_cut_where_frames_end() {
        let parts: Vec<_> = part(14, 20).by_frame().collect();
        assert_eq!(parts, [part(14, 2), part(16, 16), part(32, 2)]);
    }
}
