//! Exit codes of commands that did their work. [`ErrorKind`] has those of commands that failed.

use backstop_types::error::ErrorKind;

/// Result of a command that did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Everything is in order.
    Well,
    /// Something that was checked needs attention.
    Attention,
    /// No repository exists yet.
    Absent,
    /// Something that was checked is damaged.
    Damaged,
}

impl CommandOutcome {
    /// Returns the process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Attention => ErrorKind::Failed.exit_code(),
            Self::Absent => ErrorKind::NotRecoverable.exit_code(),
            Self::Damaged => ErrorKind::Damaged.exit_code(),
        }
    }
}
