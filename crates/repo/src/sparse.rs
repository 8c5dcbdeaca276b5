//! Reads from the file system which blocks of a file hold data.

use std::fs::File;
use std::ops::Range;

use backstop_types::error::{Result, ResultExt};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::block_extents::{BLOCK_BYTES, blocks_of};

/// Returns the blocks of a file that may hold anything but zeros: all of them if the file system
/// cannot tell.
pub(crate) fn data_ranges(file: &File, size: u64) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(whole_blocks(std::iter::once(0..size), size)),
            Err(error) => return Err(error).failed("cannot seek to data"),
        };
        let end = seek(file, SeekFrom::Hole(start)).failed("cannot seek to a hole")?;
        ranges.push(start..end);
        at = end;
    }
    Ok(whole_blocks(ranges, size))
}

/// Returns byte ranges as sorted, disjoint ranges of the blocks that they touch, within a file of
/// this size.
pub(crate) fn whole_blocks(ranges: impl IntoIterator<Item = Range<u64>>, size: u64) -> Vec<Range<u64>> {
    let mut blocks: Vec<Range<u64>> = ranges
        .into_iter()
        .filter(|range| !range.is_empty())
        .map(|range| range.start / BLOCK_BYTES as u64..blocks_of(range.end.min(size)))
        .filter(|range| !range.is_empty())
        .collect();
    blocks.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(blocks.len());
    for range in blocks {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_grow_to_blocks_and_merge() {
        let k = 1024;
        assert_eq!(whole_blocks([20 * k..21 * k, 0..1, 100 * k..200 * k], 110 * k), [0..2, 6..7]);
        assert_eq!(whole_blocks([5..5, 64 * k..80 * k], 64 * k), []);
    }

    #[test]
    fn holes_are_not_reported_as_data() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(&[1; 10], 5 << 20).unwrap();
        let segments = data_ranges(&file, 10 << 20).unwrap();
        let block = (5 << 20) / BLOCK_BYTES as u64;
        assert!(segments.iter().any(|range| range.contains(&block)));
        assert!(segments.iter().map(|range| range.end - range.start).sum::<u64>() < 640, "{segments:?}");
    }
}
