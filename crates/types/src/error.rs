//! Errors, in a few kinds that determine the caller's next step.

use std::fmt;

/// Kind of an [`Error`], by the caller's next step. Each kind has one documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operation failed; the message names the cause. A retry may help.
    Failed,
    /// The arguments or the configuration are wrong: correct them.
    Usage,
    /// The bucket is missing or the store cannot be reached.
    Store,
    /// Another run holds the shard.
    Held,
    /// Access was denied: correct credentials or grants.
    Denied,
    /// A safety check refused the operation. Nothing was changed.
    Refused,
    /// The target cannot be recovered, or no backup exists yet.
    NotRecoverable,
    /// Stored data is damaged.
    Damaged,
    /// The user stopped the operation.
    Interrupted,
}

impl ErrorKind {
    /// Returns the process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Store => 10,
            Self::Held => 11,
            Self::Denied => 12,
            Self::Refused => 20,
            Self::NotRecoverable => 21,
            Self::Damaged => 22,
            Self::Interrupted => 130,
        }
    }
}

/// An error: the failed operation (verb and object), the cause, and the operator's remedy. Never
/// holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kind.
    pub kind: ErrorKind,
    /// The failed operation and the cause, outermost context first.
    pub message: String,
    /// The operator's remedy.
    pub hint: Option<String>,
}

/// Result of any operation that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns an error without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Returns [`ErrorKind::Failed`] with a message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// Returns [`ErrorKind::Refused`] with a message.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Returns the same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the same error with an outer context: `context: message`.
    #[must_use]
    pub fn during(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Gives any error a kind and a context.
pub trait ResultExt<T> {
    /// Converts the error to an [`Error`] of this kind, `context: error`.
    fn context(self, kind: ErrorKind, context: impl fmt::Display) -> Result<T>;
    /// Applies [`ResultExt::error`] with [`ErrorKind::Failed`].
    fn failed(self, context: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, kind: ErrorKind, context: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(kind, format!("{context}: {error}")))
    }

    fn failed(self, context: impl fmt::Display) -> Result<T> {
        self.context(ErrorKind::Failed, context)
    }
}
