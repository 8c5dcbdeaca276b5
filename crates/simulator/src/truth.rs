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
    /// Contents that a number ever had: numbers are used again after a reset.
    committed: BTreeMap<Gtid, BTreeSet<ContentHash>>,
    /// Transactions that an archiver acknowledged to a server whose commits waited for it.
    acknowledged: BTreeSet<(Gtid, ContentHash)>,
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
        let hash = content_hash(gtid, content);
        lock(&self.state).committed.entry(gtid.clone()).or_default().insert(hash);
    }

    /// Records that transactions were acknowledged.
    pub fn acknowledge<'a>(&self, all: impl Iterator<Item = (&'a Gtid, &'a Content)>) {
        let all: Vec<_> = all.map(|(gtid, content)| (gtid.clone(), content_hash(gtid, content))).collect();
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

    /// Returns the acknowledged transactions.
    pub fn acknowledged(&self) -> BTreeSet<(Gtid, ContentHash)> {
        lock(&self.state).acknowledged.clone()
    }

    /// Returns the transactions that were ever purged.
    pub fn purged(&self) -> GtidSet {
        lock(&self.state).purged.clone()
    }

    /// Returns true if a transaction was ever committed with this content.
    pub fn knows(&self, gtid: &Gtid, hash: &ContentHash) -> bool {
        lock(&self.state).committed.get(gtid).is_some_and(|known| known.contains(hash))
    }
}
