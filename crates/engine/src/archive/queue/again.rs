//! Giving up what is spooled: it is not what the source sent, or it is gone. What is not archived is asked of the source again.

use std::path::PathBuf;

use backstop_binlog::Segment;
use backstop_model::fault::Fault;

use super::{Queue, Spooled, Unsynced};

impl Queue {
    /// Nothing that is spooled is archived, made safe or taken any more.
    pub(in crate::archive) fn give_up(&self, fault: Fault) {
        self.state().given_up.get_or_insert(fault);
        self.changed.notify_waiters();
    }

    /// Why what is spooled was given up, if it was.
    pub(in crate::archive) fn given_up(&self) -> Option<Fault> {
        self.state().given_up.clone()
    }

    /// No one is archiving a piece or a segment now.
    pub(in crate::archive) fn rest(&self) {
        self.state().archiving = false;
        self.changed.notify_waiters();
    }

    /// True while something is being archived, or made safe on this host's disk.
    pub(in crate::archive) fn is_at_work(&self) -> bool {
        let state = self.state();
        state.archiving || state.syncing
    }

    /// Forgets what was given up, once no one is at work with it. Gives its files.
    pub(in crate::archive) fn begin_again(&self) -> Vec<PathBuf> {
        let mut state = self.state();
        let files = state.files.drain(..).map(|spooled| spooled.path).collect();
        if let Some(all) = &mut state.unsynced {
            all.clear();
        }
        let archived = state.transactions.archived;
        state.transactions.published = archived;
        state.transactions.synced = archived;
        state.under_way = None;
        state.given_up = None;
        drop(state);
        self.changed.notify_waiters();
        files
    }

    /// True if a piece is archived already: then it matters no more whether it is safe on this host's disk.
    pub(in crate::archive) fn has_archived(&self, unsynced: &Unsynced) -> bool {
        let state = self.state();
        let file = state.files.iter().find(|spooled| spooled.path == unsynced.path);
        state.given_up.is_none() && file.is_none_or(|spooled| unsynced.piece.end <= spooled.archived_to)
    }

    /// Where the bytes of a piece are in the spool, and how many come before them there.
    pub(in crate::archive) fn place_of(&self, piece: &Segment) -> Option<(PathBuf, u64)> {
        let state = self.state();
        let holds = |spooled: &&Spooled| {
            (spooled.source, &spooled.file) == (piece.source, &piece.file)
                && spooled.start <= piece.start
                && piece.end <= spooled.archived_to
        };
        let spooled = state.files.iter().find(holds)?;
        Some((spooled.path.clone(), piece.start - spooled.start))
    }

    /// True while a segment that is to take the place of pieces is being put.
    pub(in crate::archive) fn is_replacing(&self) -> bool {
        self.state().replacing > 0
    }

    /// The file of a piece that waits, for tests.
    #[cfg(test)]
    pub(in crate::archive) fn newest_file(&self) -> Option<PathBuf> {
        self.state().files.back().map(|spooled| spooled.path.clone())
    }
}
