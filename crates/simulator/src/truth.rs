//! Truth: every transaction that was ever committed, and those that were acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use backstop_types::gtid::{Gtid, GtidSet};

use crate::binlog_bytes::{Content, ContentHash, content_hash};
use crate::process::lock;

type OnAcknowledged = Box<dyn Fn() + Send + Sync>;

/// Everything that the simulated servers committed.
#[derive(Default)]
pub struct Truth {
    state: Mutex<TruthState>,
    on_acknowledged: OnceLock<OnAcknowledged>,
}

#[derive(Default)]
struct TruthState {
    /// Everything committed: a number has several contents if it was used again after a reset.
    committed: BTreeSet<ContentHash>,
    /// Transactions that an archiver acknowledged to a server whose commits waited for it.
    acknowledged: BTreeMap<ContentHash, Gtid>,
    /// Transactions that servers purged, or that someone set as purged.
    purged: GtidSet,
}

impl Truth {
    /// Calls this after each acknowledgement.
    pub fn watch(&self, on_acknowledged: OnAcknowledged) {
        let _ = self.on_acknowledged.set(on_acknowledged);
    }

    /// Records a commit.
    pub fn commit(&self, gtid: &Gtid, content: &Content) {
        lock(&self.state).committed.insert(content_hash(gtid, content));
    }

    /// Records that transactions were acknowledged.
    pub fn acknowledge<'a>(&self, all: impl Iterator<Item = (&'a Gtid, &'a Content)>) {
        let all: Vec<_> = all.map(|(gtid, content)| (content_hash(gtid, content), gtid.clone())).collect();
        if all.is_empty() {
            return;
        }
        lock(&self.state).acknowledged.extend(all);
        if let Some(call) = self.on_acknowledged.get() {
            call();
        }
    }

    /// Records that transactions were purged.
    pub fn purge(&self, purged: &GtidSet) {
        let mut state = lock(&self.state);
        state.purged = state.purged.union(purged);
    }

    /// Returns the number of acknowledged transactions.
    pub fn acknowledged(&self) -> usize {
        lock(&self.state).acknowledged.len()
    }

    /// Returns the acknowledged transactions that are not among these.
    pub fn unrecoverable(&self, replayed: &BTreeSet<ContentHash>) -> Vec<Gtid> {
        let state = lock(&self.state);
        let lost = state.acknowledged.iter().filter(|(hash, _)| !replayed.contains(*hash));
        lost.map(|(_, gtid)| gtid.clone()).collect()
    }

    /// Returns the transactions that were ever purged.
    pub fn purged(&self) -> GtidSet {
        lock(&self.state).purged.clone()
    }

    /// Returns true if a transaction with this content was ever committed.
    pub fn knows(&self, hash: &ContentHash) -> bool {
        lock(&self.state).committed.contains(hash)
    }
}
