//! Detects a reset of the source's binlog during a stream: the open stream then falls silent
//! without an error.

use backstop_types::gtid::GtidSet;

/// A position in a server's binlog: the file's name and an offset in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogPosition {
    /// Name of the file.
    pub file: String,
    /// Offset in it.
    pub offset: u64,
}

impl BinlogPosition {
    /// True if a server that writes at this position has reset its binlog since it wrote `before`:
    /// file numbers and offsets only grow otherwise.
    pub fn begins_again_after(&self, before: &Self) -> bool {
        match (split_file_number(&self.file), split_file_number(&before.file)) {
            (Some((base, now)), Some((other, then))) if base == other => {
                now < then || (now == then && self.offset < before.offset)
            }
            _ => self.file == before.file && self.offset < before.offset,
        }
    }
}

/// Splits `binlog.000012` into `binlog` and 12.
fn split_file_number(file: &str) -> Option<(&str, u64)> {
    let (base, number) = file.rsplit_once('.')?;
    Some((base, number.parse().ok()?))
}

/// Explains why a stream does not match its source: the streamed position, read before the source
/// was queried, does not exist there. `None`: it matches.
pub fn source_mismatch(
    streamed: Option<&BinlogPosition>,
    held: &GtidSet,
    source: Option<&BinlogPosition>,
    reached: &GtidSet,
) -> Option<String> {
    let lacks = held.subtract(reached);
    if !lacks.is_empty() {
        return Some(format!("it lacks transactions that it had: {lacks}"));
    }
    let (streamed, source) = (streamed?, source?);
    source.begins_again_after(streamed).then(|| {
        format!(
            "its binlog was reset: it writes {} at {}, and {} was streamed up to {}",
            source.file, source.offset, streamed.file, streamed.offset
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(file: &str, offset: u64) -> BinlogPosition {
        BinlogPosition { file: file.to_owned(), offset }
    }

    fn set(last: u64) -> GtidSet {
        format!("aaaaaaaa-0000-4000-8000-000000000000:1-{last}").parse().unwrap()
    }

    #[test]
    fn source_that_advanced_is_accepted() {
        let streamed = place("binlog.000009", 500);
        for (file, offset) in [("binlog.000009", 500), ("binlog.000009", 900), ("binlog.000010", 4)] {
            let now = place(file, offset);
            assert_eq!(source_mismatch(Some(&streamed), &set(7), Some(&now), &set(7)), None, "{now:?}");
            assert_eq!(source_mismatch(Some(&streamed), &set(7), Some(&now), &set(9)), None, "{now:?}");
        }
        assert_eq!(
            source_mismatch(
                Some(&place("binlog.999999", 500)),
                &set(7),
                Some(&place("binlog.1000000", 4)),
                &set(7)
            ),
            None
        );
        assert_eq!(source_mismatch(None, &set(7), Some(&place("binlog.000001", 4)), &set(7)), None);
        // Another base name: the server was restarted, which ends a stream by itself.
        assert_eq!(source_mismatch(Some(&streamed), &set(7), Some(&place("bin.000001", 4)), &set(7)), None);
    }

    #[test]
    fn source_that_was_reset_is_rejected() {
        let streamed = place("binlog.000002", 500);
        for (file, offset, reached) in
            [("binlog.000001", 900, 9), ("binlog.000002", 499, 9), ("binlog.000002", 900, 6)]
        {
            let why = source_mismatch(Some(&streamed), &set(7), Some(&place(file, offset)), &set(reached));
            assert!(why.is_some(), "{file} {offset} {reached}");
        }
    }
}
