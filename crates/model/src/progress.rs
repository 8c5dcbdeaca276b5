//! How long work reports how far it is.

/// One report of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How much is done, in `unit`.
    pub done: u64,
    /// How much there is, if it is known.
    pub total: Option<u64>,
    /// What is being counted.
    pub unit: ProgressUnit,
}

/// What a [`Progress`] counts.
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
