//! Progress of long operations.

/// One report of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Amount done, in `unit`.
    pub done: u64,
    /// Total amount, if known.
    pub total: Option<u64>,
    /// The unit.
    pub unit: ProgressUnit,
}

/// Unit of a [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressUnit {
    /// Bytes.
    Bytes,
    /// Transactions.
    Transactions,
    /// Tables.
    Tables,
    /// Hundredths of the whole.
    Percent,
}
