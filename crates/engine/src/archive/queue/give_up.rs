//! Gives up spooled transactions that are not what the source sent, or that are gone. The archiver
//! requests those that are not archived from the source again.

use std::path::PathBuf;

use backstop_binlog::Segment;
use backstop_types::error::Error;

use super::{Queue, SpooledFile, UnsyncedChunk};

impl Queue {
    /// Stops archiving, syncing and accepting spooled transactions.
    pub(in crate::archive) fn give_up(&self, error: Error) {
        self.state().given_up.get_or_insert(error);
        self.changed.notify_waiters();
    }

    /// Returns the reason why the spooled transactions were given up, if they were.
    pub(in crate::archive) fn given_up(&self) -> Option<Error> {
        self.state().given_up.clone()
    }

    /// Records that no chunk or segment is being archived now.
    pub(in crate::archive) fn set_idle(&self) {
        self.state().archiving = false;
        self.changed.notify_waiters();
    }

    /// True while something is being archived or synced to this host's disk.
    pub(in crate::archive) fn is_busy(&self) -> bool {
        let state = self.state();
        state.archiving || state.syncing
    }

    /// Drops the given-up transactions once no task works on them. Returns their files.
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

    /// True if a chunk is archived already; then it need not be synced to this host's disk.
    pub(in crate::archive) fn has_archived(&self, unsynced: &UnsyncedChunk) -> bool {
        let state = self.state();
        let file = state.files.iter().find(|spooled| spooled.path == unsynced.path);
        state.given_up.is_none() && file.is_none_or(|spooled| unsynced.chunk.end <= spooled.archived_to)
    }

    /// Returns the spool's file that holds the bytes of a segment, and their offset in it.
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

    /// True while a full segment that replaces tail segments is being stored.
    pub(in crate::archive) fn is_replacing(&self) -> bool {
        self.state().replacing > 0
    }

    /// Returns the file of a waiting chunk, for tests.
    #[cfg(test)]
    pub(in crate::archive) fn newest_file(&self) -> Option<PathBuf> {
        self.state().files.back().map(|spooled| spooled.path.clone())
    }
}
