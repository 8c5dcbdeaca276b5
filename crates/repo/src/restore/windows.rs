//! Extents, taken in windows and grouped by pack, so that each pack is read in a few large pieces although the
//! blocks of a file lie in many packs.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::done_list::DoneList;
use crate::extents::{BLOCK, Extent, ExtentsReader, FRAME_BLOCKS, Pack, Place};
use crate::object::ObjectResult;

/// Blocks of one window: 64 MiB.
const WINDOW: u64 = 4096;
/// Most plain bytes of one piece of a pack.
const PIECE: u64 = 8 * 1024 * 1024;
/// Frames between two wanted ones that are fetched with them rather than asked for separately.
const GAP: u32 = 4;

/// Some consecutive blocks: from a pack into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) file: u32,
    pub(super) to: u64,
    pub(super) from: u32,
    pub(super) count: u32,
}

/// What one fetch brings.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) window: u64,
    pub(super) pack: Pack,
    pub(super) frames: Range<usize>,
    pub(super) moves: Vec<Move>,
}

impl Move {
    /// The frame of its pack that it begins in.
    pub(super) fn frame(&self) -> usize {
        (self.from / FRAME_BLOCKS) as usize
    }

    /// The same, cut where frames end.
    pub(super) fn by_frame(self) -> impl Iterator<Item = Move> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let now = rest.take()?;
            let (first, rest_of) = now.split(FRAME_BLOCKS - now.from % FRAME_BLOCKS);
            rest = rest_of;
            Some(first)
        })
    }

    /// The first so many blocks, and what is left.
    fn split(self, blocks: u32) -> (Move, Option<Move>) {
        if self.count <= blocks {
            return (self, None);
        }
        let rest = Move {
            to: self.to + u64::from(blocks),
            from: self.from + blocks,
            count: self.count - blocks,
            ..self
        };
        (Move { count: blocks, ..self }, Some(rest))
    }
}

/// Takes extents by windows and makes pieces of them.
pub(super) struct Windows<'a> {
    extents: ExtentsReader,
    packs: &'a [Pack],
    /// The part of an extent that did not fit into the window before.
    over: Option<Extent>,
    number: u64,
}

/// The pieces of one window, and where it ends.
pub(super) struct Window {
    pub(super) number: u64,
    pub(super) pieces: Vec<Piece>,
    /// The file that the window ends in; all before it are in this window or earlier ones.
    pub(super) ends_in: usize,
    pub(super) blocks: u64,
}

impl<'a> Windows<'a> {
    pub(super) fn new(extents: ExtentsReader, packs: &'a [Pack]) -> Self {
        Self { extents, packs, over: None, number: 0 }
    }

    /// The next window; `None` after the last. Files that are complete are left out.
    pub(super) async fn next(&mut self, done: &DoneList) -> ObjectResult<Option<Window>> {
        let mut moves: BTreeMap<u32, Vec<Move>> = BTreeMap::new();
        let (mut room, mut last, mut passed) = (WINDOW, None, 0);
        while room > 0 {
            let extent = match self.over.take() {
                Some(extent) => extent,
                None => match self.extents.next().await? {
                    Some(extent) => extent,
                    None => break,
                },
            };
            last = Some(extent.file as usize);
            let Place::Pack { pack, block } = extent.place else {
                passed += extent.count;
                continue;
            };
            let take = extent.count.min(room);
            passed += take;
            if !done.contains(extent.file as usize) {
                let part = Move { file: extent.file, to: extent.first, from: block, count: take as u32 };
                moves.entry(pack).or_default().push(part);
                room -= take;
            }
            if take < extent.count {
                self.over = Some(Extent {
                    first: extent.first + take,
                    count: extent.count - take,
                    place: Place::Pack { pack, block: block + take as u32 },
                    ..extent
                });
            }
        }
        let Some(ends_in) = last else { return Ok(None) };
        let number = self.number;
        self.number += 1;
        let mut pieces = Vec::new();
        for (pack, moves) in moves {
            pieces.extend(cut(number, self.packs[pack as usize], moves));
        }
        Ok(Some(Window { number, pieces, ends_in, blocks: passed }))
    }
}

/// Cuts what is wanted of one pack into fetches.
fn cut(window: u64, pack: Pack, mut moves: Vec<Move>) -> Vec<Piece> {
    moves.sort_by_key(|part| part.from);
    let mut pieces: Vec<Piece> = Vec::new();
    for part in moves {
        let mut rest = Some(part);
        while let Some(now) = rest {
            let piece = match pieces.pop_if(|piece| joins(piece, now.frame())) {
                Some(piece) => piece,
                None => Piece { window, pack, frames: now.frame()..now.frame(), moves: Vec::new() },
            };
            let (fits, over) = now.split((piece.frames.start + MOST) as u32 * FRAME_BLOCKS - now.from);
            pieces.push(extended(piece, fits));
            rest = over;
        }
    }
    pieces
}

/// Frames of one piece. An average would do: it bounds memory.
const MOST: usize = (PIECE / (FRAME_BLOCKS as u64 * BLOCK as u64)) as usize;

fn joins(piece: &Piece, frame: usize) -> bool {
    frame <= piece.frames.end + GAP as usize && frame < piece.frames.start + MOST
}

fn extended(mut piece: Piece, part: Move) -> Piece {
    let end = (part.from + part.count).div_ceil(FRAME_BLOCKS) as usize;
    piece.frames.end = piece.frames.end.max(end);
    piece.moves.push(part);
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PackId;

    fn pack() -> Pack {
        Pack { id: PackId { claim: 1, number: 0 }, size: 0, digest: [0; 16] }
    }

    fn part(from: u32, count: u32) -> Move {
        Move { file: 0, to: u64::from(from) + 7, from, count }
    }

    #[test]
    fn near_blocks_are_fetched_together_and_far_ones_apart() {
        let pieces = cut(0, pack(), vec![part(500, 1), part(0, 3), part(40, 1)]);
        let frames: Vec<_> = pieces.iter().map(|piece| piece.frames.clone()).collect();
        assert_eq!(frames, [0..3, 31..32]);
        assert_eq!(pieces[0].moves, [part(0, 3), part(40, 1)]);
    }

    #[test]
    fn a_whole_pack_is_cut_into_pieces_that_bound_memory() {
        let pieces = cut(0, pack(), vec![part(0, 1024)]);
        assert!(pieces.iter().all(|piece| piece.frames.len() <= MOST));
        let moved: u32 = pieces.iter().flat_map(|piece| &piece.moves).map(|part| part.count).sum();
        assert_eq!((pieces.len(), moved), (2, 1024));
    }

    #[test]
    fn moves_are_cut_where_frames_end() {
        let parts: Vec<_> = part(14, 20).by_frame().collect();
        assert_eq!(parts, [part(14, 2), part(16, 16), part(32, 2)]);
    }
}
