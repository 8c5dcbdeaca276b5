//! Giving up what is spooled: it is not what the source sent, or it is gone. What is not archived is asked of the source again.

use std::path::PathBuf;

use backstop_binlog::Segment;
use backstop_model::error::Error;

use super::{Queue, SpooledFile, UnsyncedChunk};

impl Queue {
    /// Nothing that is spooled is archived, made safe or taken any more.
    pub(in crate::archive) fn give_up(&self, error: Error) {
        self.state().given_up.get_or_insert(error);
        self.changed.notify_waiters();
    }

    /// Why what is spooled was given up, if it was.
    pub(in crate::archive) fn given_up(&self) -> Option<Error> {
        self.state().given_up.clone()
    }

    /// No one is archiving a piece or a segment now.
    pub(in crate::archive) fn set_idle(&self) {
        self.state().archiving = false;
        self.changed.notify_waiters();
    }

    /// True while something is being archived, or made safe on this host's disk.
    pub(in crate::archive) fn is_busy(&self) -> bool {
        let state = self.state();
        state.archiving || state.syncing
    }

    /// Forgets what was given up, once no one is at work with it. Gives its files.
    pub(in crate::archive) fn restart(&self) -> Vec<PathBuf> {
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
    pub(in crate::archive) fn has_archived(&self, unsynced: &UnsyncedChunk) -> bool {
        let state = self.state();
        let file = state.files.iter().find(|spooled| spooled.path == unsynced.path);
        state.given_up.is_none() && file.is_none_or(|spooled| unsynced.chunk.end <= spooled.archived_to)
    }

    /// Where the bytes of a piece are in the spool, and how many come before them there.
    pub(in crate::archive) fn find_spooled(&self, segment: &Segment) -> Option<(PathBuf, u64)> {
        let state = self.state();
        let holds = |spooled: &&SpooledFile| {
            (spooled.source, &spooled.file) == (segment.source, &segment.file)
                && spooled.start <= segment.start
                && segment.end <= spooled.archived_to
        };
        let spooled = state.files.iter().find(holds)?;
        Some((spooled.path.clone(), segment.start - spooled.start))
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
