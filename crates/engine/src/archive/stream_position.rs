//! Stream position and source position. The source's is read from the source itself, since an open
//! stream does not show that the binlog was reset.

use std::sync::{Mutex, PoisonError};

use backstop_binlog::{Segmenter, Session};
use backstop_policy::stream_or_fork::{BinlogPosition, source_mismatch};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::server::ServerVersion;

use super::binlog_source::binlog_gtids;

/// Position up to which a stream was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StreamPosition {
    /// Position in the source's binlog; `None`: no file was begun yet.
    pub(super) place: Option<BinlogPosition>,
    /// All transactions streamed up to this position, and those before the stream.
    pub(super) held: GtidSet,
    /// Number of transactions that had been published at this position.
    pub(super) published: u64,
    /// Heartbeats since the last event; `None`: an event came last.
    pub(super) idle: Option<IdleStream>,
}

/// Heartbeats without an event in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdleStream {
    /// Position up to which the source has sent everything, by its heartbeats.
    pub(super) at: BinlogPosition,
    /// Number of heartbeats with this position.
    pub(super) heartbeats: u64,
}

impl IdleStream {
    /// Counts a heartbeat after those before it.
    pub(super) fn after(before: Option<Self>, at: BinlogPosition) -> Self {
        let heartbeats = before.filter(|before| before.at == at).map_or(0, |before| before.heartbeats);
        Self { at, heartbeats: heartbeats + 1 }
    }
}

/// Stream position, shared between the reader and the monitor.
#[derive(Default)]
pub(super) struct SharedStreamPosition(Mutex<Option<StreamPosition>>);

impl SharedStreamPosition {
    /// Records that the stream was read up to here.
    pub(super) fn advance(&self, segmenter: &Segmenter, published: u64, idle: Option<IdleStream>) {
        let place =
            segmenter.position().map(|(file, offset)| BinlogPosition { file: file.to_owned(), offset });
        self.set(Some(StreamPosition { place, held: segmenter.held().clone(), published, idle }));
    }

    /// Clears the position: nothing is streamed.
    pub(super) fn reset(&self) {
        self.set(None);
    }

    pub(super) fn get(&self) -> Option<StreamPosition> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, streamed: Option<StreamPosition>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = streamed;
    }
}

/// A source's own position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourcePosition {
    /// Position at which it writes.
    pub(super) place: Option<BinlogPosition>,
    /// All transactions that are or were in its binlog.
    pub(super) reached: GtidSet,
}

impl SourcePosition {
    /// Returns the reason why a stream that was at `streamed` before this position was read is no
    /// longer the source's.
    pub(super) fn misfit(&self, streamed: &StreamPosition) -> Option<String> {
        source_mismatch(streamed.place.as_ref(), &streamed.held, self.place.as_ref(), &self.reached)
    }

    /// Returns the reason why a source that had these transactions before this position was read is
    /// no longer the same.
    pub(super) fn lost(&self, had: &GtidSet) -> Option<String> {
        source_mismatch(None, had, None, &self.reached)
    }

    /// True if nothing was written since the stream was at this position.
    pub(super) fn is_at(&self, streamed: &StreamPosition) -> bool {
        self.place.is_some() && self.place == streamed.place && self.reached.is_subset_of(&streamed.held)
    }
}

/// Reads a server's position. The GTID set is read last, so that it has every transaction before the
/// place: who holds the set may acknowledge the place.
pub(super) async fn source_position(session: &mut Session) -> Result<SourcePosition> {
    let place = binlog_position(session).await?;
    Ok(SourcePosition { place, reached: binlog_gtids(session).await? })
}

/// Returns the position at which a server writes its binlog; `None`: it has no binlog.
pub(super) async fn binlog_position(session: &mut Session) -> Result<Option<BinlogPosition>> {
    let version = session.version.parse::<ServerVersion>();
    let renamed = version.is_ok_and(|version| version.at_least(8, 2, 0));
    let rows = session.query(if renamed { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }).await;
    let denied = |error: Error| match error.kind {
        ErrorKind::Denied => {
            error.hint("Backstop's account needs REPLICATION CLIENT: docs/grants.md has the grants")
        }
        _ => error,
    };
    let rows = rows.map_err(denied)?;
    let Some([Some(file), Some(offset), ..]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
    let offset =
        offset.parse().map_err(|_| Error::failed(format!("cannot parse the position `{offset}`")))?;
    Ok(Some(BinlogPosition { file: file.clone(), offset }))
}

/// Reads a status variable of semi-synchronous replication, under its old or new name.
pub(super) async fn semi_sync(session: &mut Session, what: &str) -> Result<Option<String>> {
    let sql = format!(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Rpl_semi_sync_source_{what}', 'Rpl_semi_sync_master_{what}')"
    );
    let rows = session.query(&sql).await?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten())
}
