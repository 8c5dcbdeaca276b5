//! What a server is doing, and whether that is a moment to ask for a lock.

use std::time::Duration;

/// Everything that could make a lock wait, or wait behind it, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Every session that runs something (also appliers and system threads), idle ones left out.
    pub queries: Vec<RunningQuery>,
}

/// One session that runs something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningQuery {
    /// `PROCESSLIST_ID`: what KILL takes.
    pub id: u64,
    /// Account name, without the host.
    pub user: String,
    /// `PROCESSLIST_COMMAND`: `Query`, `Connect`, `Binlog Dump GTID`, …
    pub command: String,
    /// `PROCESSLIST_STATE`, empty if NULL.
    pub state: String,
    /// The first characters of the statement, empty if NULL. May hold users' data: for an operator's eyes, never stored.
    pub info: String,
    /// How long it has been running.
    pub running: Duration,
    /// What kind of work it is.
    pub kind: QueryKind,
}

/// What a session's work means for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Reads or writes of an ordinary user.
    Ordinary,
    /// CREATE, ALTER, DROP, TRUNCATE, RENAME, OPTIMIZE, … of tables.
    Ddl,
    /// A FLUSH TABLES or other global lock that is waiting or held by another session.
    GlobalLock,
    /// A replication applier (coordinator or worker).
    Applier,
    /// A replication dump thread: it sends binary logs to a replica.
    Dump,
    /// A thread of the server itself (`system user`, event scheduler, daemon).
    System,
    /// A session of Backstop's own.
    Own,
}
