//! A transaction of a binlog, and what it changes.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// A transaction found by a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundTransaction {
    /// Its GTID.
    pub gtid: String,
    /// Commit time on its original server, in µs; `None`: its event does not contain the time.
    pub committed_at: Option<DateTime<Utc>>,
    /// Kind of change.
    pub kind: ChangeKind,
    /// The changed tables, as far as known.
    pub tables: Vec<TableRows>,
    /// Total number of rows in all tables.
    pub rows: u64,
    /// The statement, for DDL or a change logged as a statement; at most 1000 characters.
    pub statement: Option<String>,
    /// True if row changes were logged as statements: the rows and their number are then unknown.
    pub statement_based: bool,
    /// Loss caused by its statement; `None`: no loss, or unknown.
    pub loses: Option<DataLoss>,
    /// The target of a recovery to just before it.
    pub to: String,
}

/// Loss caused by a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataLoss {
    /// A definition without rows: a view, an account, a routine.
    Definition,
    /// Rows: some of a table, or a table with all of its rows.
    Rows,
}

/// Kind of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Changed definitions, accounts or privileges.
    Ddl,
    /// Changed rows.
    Dml,
    /// Neither: an empty transaction, or the end of an XA transaction.
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
    /// True if the number may be higher: some row events are of an unknown kind, or very large.
    pub at_least: bool,
}
