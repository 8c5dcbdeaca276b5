//! Errors of a configuration, combined in one message.

use std::fmt;

use backstop_types::error::{Error, ErrorKind};

/// All errors of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The name of the file.
    pub file: String,
    /// Its errors, by line; those of flags and variables last. Never empty.
    pub errors: Vec<ConfigError>,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Origin of the value.
    pub origin: ValueOrigin,
    /// The full key, empty if the text is not valid TOML there.
    pub key: String,
    /// The error and the valid form.
    pub message: String,
}

/// Origin of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueOrigin {
    /// A line of the file, from 1.
    Line(usize),
    /// A flag (`--repository`) or variable (`BACKSTOP_REPOSITORY`), by its name.
    Given(String),
    /// A JSON entry, in which the key identifies the place.
    Entry,
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Given(name) => f.write_str(name),
            Self::Entry => f.write_str("the entry"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.message)
        } else {
            write!(f, "{}, {}: {}", self.origin, self.key, self.message)
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.errors.len() == 1 { "" } else { "s" };
        write!(f, "cannot read {}: {} error{plural}", self.file, self.errors.len())?;
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for Error {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(ErrorKind::Usage, errors.to_string())
    }
}
