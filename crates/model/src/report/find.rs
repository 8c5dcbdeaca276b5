//! `find --json`.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::ids::ShardName;

/// What a search of the archive gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindReport {
    /// The shard.
    pub shard: ShardName,
    /// The line that was searched.
    #[serde(rename = "line")]
    pub timeline: u32,
    /// The same, if it was asked for: a recovery needs `--line` then.
    #[serde(skip)]
    #[serde(rename = "left_line")]
    pub abandoned_timeline: Option<u32>,
    /// The transactions that were found, the newest first.
    pub transactions: Vec<FoundTransaction>,
    /// True if there are more than were asked for: older ones.
    pub more: bool,
    /// The one that a recovery is most likely to stop before; `None`: none can be recovered to just before.
    pub advice: Option<RecoveryAdvice>,
    /// How much was read.
    pub read: SearchedPart,
}

/// What to recover to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryAdvice {
    /// The transaction.
    pub gtid: String,
    /// The target of a recovery to just before it.
    pub to: String,
    /// Why this one, in words.
    pub why: String,
}

/// How much a search has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SearchedPart {
    /// Pieces of the archive.
    pub segments: u64,
    /// Bytes of them, before compression.
    pub bytes: u64,
    /// Transactions in them.
    pub transactions: u64,
}

/// A transaction that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundTransaction {
    /// Its GTID.
    pub gtid: String,
    /// When it was committed where it was made, to the µs; `None`: its event does not say.
    pub committed_at: Option<DateTime<Utc>>,
    /// What it did.
    pub kind: ChangeKind,
    /// The tables that it changed, as far as is known.
    pub tables: Vec<TableRows>,
    /// Rows of all tables together.
    pub rows: u64,
    /// The statement, for a change of definitions or one that was logged as a statement; at most 1000 letters.
    pub statement: Option<String>,
    /// True if changes of rows were logged as statements: which rows, and how many, is then not known.
    pub statement_based: bool,
    /// What its statement took away; `None`: nothing, or that is not known.
    pub loses: Option<DataLoss>,
    /// The target of a recovery to just before it.
    pub to: String,
}

/// What a statement takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataLoss {
    /// A definition that holds no rows: a view, an account, a routine.
    Definition,
    /// Rows: some of a table, or a table with all of them.
    Rows,
}

/// What a transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Changed definitions, accounts or rights.
    Ddl,
    /// Changed rows.
    Dml,
    /// Neither: an empty transaction, the end of an XA transaction.
    Other,
}

/// The rows of one table that a transaction touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableRows {
    /// Its schema.
    pub schema: String,
    /// Its name; `*`: all of the schema.
    pub table: String,
    /// Rows inserted.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// True if there may be more than were counted: rows of a kind that is not known, or very large ones.
    pub at_least: bool,
}
