//! Rows of the ledger, found in the bytes of an archive: the rows that could be recovered if every
//! server were lost now.

use std::collections::HashMap;

use backstop_testkit::workload::WrittenRows;

use crate::support::program::Backstop;
use crate::support::stored_archive::{contents, reader};
use tokio::io::AsyncReadExt;

/// Returns the acknowledged rows that are in no archived row event, in the order in which they were
/// acknowledged.
pub async fn lost(backstop: &Backstop, written: &WrittenRows) -> Vec<u64> {
    let expected: HashMap<u64, u64> = written.rows.iter().copied().collect();
    let mut found = std::collections::HashSet::new();
    let reader = reader(backstop).await;
    for segment in contents(backstop).await.segments {
        let mut bytes = Vec::new();
        reader.open(&segment).await.unwrap().read_to_end(&mut bytes).await.unwrap();
        for at in 0..bytes.len().saturating_sub(17) {
            let image = &bytes[at..];
            let number = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
            if expected.get(&number(0)) == Some(&number(8)) && is_padded(&image[16..], number(0)) {
                found.insert(number(0));
            }
        }
    }
    written.rows.iter().map(|(id, _)| *id).filter(|id| !found.contains(id)).collect()
}

/// Checks for the padding of an id. A row image is both numbers, eight bytes each, little-endian,
/// then the padding that belongs to the id, with its length. Without the padding the end of one
/// image can look like another.
fn is_padded(rest: &[u8], id: u64) -> bool {
    let length = usize::try_from(id % 200).unwrap();
    rest[0] as usize == length
        && rest[1..].iter().take(length).filter(|byte| **byte == b'x').count() == length
}
