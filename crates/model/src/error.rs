//! What went wrong, in the few kinds that tell a caller what to do next.

use std::fmt;

/// What the caller must do about a [`Error`]. Each kind has one documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It did not work; the message says what to look at. Trying again may help.
    Failed,
    /// The arguments or the configuration are wrong: correct them.
    Usage,
    /// The bucket is missing or the store cannot be reached.
    Store,
    /// Another run holds the shard.
    Held,
    /// Access was denied: correct credentials or grants.
    Denied,
    /// A guard refused, to keep something from harm. Nothing was touched.
    Refused,
    /// The moment asked for cannot be recovered, or there is no backup yet.
    NotRecoverable,
    /// Stored data is damaged.
    Damaged,
    /// The user stopped it.
    Interrupted,
}

impl ErrorKind {
    /// The process exit code of this kind.
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

/// One thing that went wrong: what (verb and object), why, and what the operator can do about it.
/// Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of thing it is.
    pub kind: ErrorKind,
    /// What was being done and what is wrong, outermost context first.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The result of anything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A fault without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// [`ErrorKind::Failed`] with a message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// [`ErrorKind::Refused`] with a message.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// The same fault with something to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same fault, told from one step further out: `context: message`.
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
    /// Turns the error into a [`Error`] of this kind, `context: error`.
    fn context(self, kind: ErrorKind, context: impl fmt::Display) -> Result<T>;
    /// [`ResultExt::error`] with [`ErrorKind::Failed`].
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
