//! Rows of the ledger, found in the bytes of an archive: what would be recovered if every server were lost now.

use std::collections::HashMap;

use backstop_testkit::ledger::Written;

use crate::archived::{contents, reader};
use crate::program::Backstop;
use tokio::io::AsyncReadExt;

/// Of the acknowledged rows those that are in no archived row event, in the order they were acknowledged.
pub async fn lost(backstop: &Backstop, written: &Written) -> Vec<u64> {
    let expected: HashMap<u64, u64> = written.rows.iter().copied().collect();
    let mut found = std::collections::HashSet::new();
    let reader = reader(backstop).await;
    for segment in contents(backstop).await.segments {
        let mut bytes = Vec::new();
        reader.open(&segment).await.unwrap().read_to_end(&mut bytes).await.unwrap();
        // Both columns of a row image are eight bytes, little-endian, one after the other.
        for window in bytes.windows(16) {
            let number = |at: usize| u64::from_le_bytes(window[at..at + 8].try_into().unwrap());
            if expected.get(&number(0)) == Some(&number(8)) {
                found.insert(number(0));
            }
        }
    }
    written.rows.iter().map(|(id, _)| *id).filter(|id| !found.contains(id)).collect()
}
