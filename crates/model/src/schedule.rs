//! When backups are due, in the grammar of AWS EventBridge.

/// `schedule` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
}

impl Schedule {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
