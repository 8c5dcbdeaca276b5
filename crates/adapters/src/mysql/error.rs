//! Errors of statements and connections, with the server's own error code.

use std::fmt;
use std::time::Duration;

use backstop_binlog::login_error::{self, SLOW_LOGIN_HINT};
use backstop_engine::shared_credentials::LoginError;
use backstop_types::error::{Error, ErrorKind};

/// Failure of a statement or a connection. It never holds a secret: it leaves out the statement's
/// text, and the server's message where that could quote a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// The operation, as verb and object: `connect to db1:3306 as backstop`, `run SHOW REPLICA
    /// STATUS on …`.
    pub doing: String,
    /// Cause of the failure.
    pub cause: SqlCause,
}

/// Cause of a failed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlCause {
    /// The server returned an error. The session is still usable.
    Server(ServerError),
    /// The server refused the account, at the login or at the first statement.
    Refused {
        /// MySQL's error number, if the server returned one.
        code: Option<u16>,
        /// The reason, and a hint.
        error: Error,
    },
    /// No answer arrived within the deadline. The session has been given up.
    Deadline(Duration),
    /// The server could not be reached.
    Unreachable(String),
    /// The connection broke, or TLS failed. The session is gone.
    Lost(String),
    /// The answer did not have the expected shape.
    Shape(String),
}

/// An error as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// MySQL's error number, for example 1045.
    pub code: u16,
    /// SQLSTATE, five characters.
    pub state: String,
    /// The server's message.
    pub message: String,
}

/// MySQL error numbers that Backstop handles.
pub mod code {
    /// Access denied to a database.
    pub const DB_ACCESS_DENIED: u16 = 1044;
    /// Access denied for a user: unknown user or wrong password.
    pub const ACCESS_DENIED: u16 = 1045;
    /// A command on a table is denied.
    pub const TABLE_ACCESS_DENIED: u16 = 1142;
    /// A privilege is missing for this operation.
    pub const SPECIFIC_ACCESS_DENIED: u16 = 1227;
    /// Unknown system variable (of an absent plugin, or of another version).
    pub const UNKNOWN_SYSTEM_VARIABLE: u16 = 1193;
    /// A lock was not granted within `lock_wait_timeout`.
    pub const LOCK_WAIT_TIMEOUT: u16 = 1205;
    /// The server runs with an option that forbids the statement (`super_read_only`, …).
    pub const OPTION_PREVENTS_STATEMENT: u16 = 1290;
    /// The query was killed, or its `max_execution_time` passed.
    pub const QUERY_INTERRUPTED: u16 = 1317;
    /// A check of a role or of a dynamic privilege failed.
    pub const ACCESS_DENIED_DYNAMIC: u16 = 1370;
}

impl SqlError {
    /// Returns the server's error number, if the server answered with one.
    pub fn code(&self) -> Option<u16> {
        match &self.cause {
            SqlCause::Server(error) => Some(error.code),
            SqlCause::Refused { code, .. } => *code,
            _ => None,
        }
    }

    /// Returns true if the credentials or their grants are at fault.
    pub fn is_denied(&self) -> bool {
        match &self.cause {
            SqlCause::Server(error) => is_denial(error.code),
            SqlCause::Refused { error: failure, .. } => failure.kind == ErrorKind::Denied,
            _ => false,
        }
    }

    /// Returns true if the session is gone, so that the server has released or will release
    /// everything it held (locks).
    pub fn is_lost(&self) -> bool {
        !matches!(self.cause, SqlCause::Server(_) | SqlCause::Shape(_))
    }
}

fn is_denial(code: u16) -> bool {
    use code::*;
    matches!(
        code,
        DB_ACCESS_DENIED
            | ACCESS_DENIED
            | TABLE_ACCESS_DENIED
            | SPECIFIC_ACCESS_DENIED
            | ACCESS_DENIED_DYNAMIC
    )
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.cause)
    }
}

impl fmt::Display for SqlCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Refused { error: failure, .. } => failure.fmt(f),
            Self::Deadline(deadline) => write!(f, "no answer within {deadline:?}"),
            Self::Unreachable(why) | Self::Lost(why) => f.write_str(why),
            Self::Shape(what) => write!(f, "unexpected answer: {what}"),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.message, self.code)
    }
}

impl std::error::Error for SqlError {}

impl LoginError for SqlError {
    fn refusal(&self) -> Option<Error> {
        match &self.cause {
            SqlCause::Refused { error, .. } if error.kind == ErrorKind::Denied => Some(error.clone()),
            _ => None,
        }
    }

    fn refused(there: &str, error: Error) -> Self {
        let code = login_error::is_wrong_password(&error).then_some(code::ACCESS_DENIED);
        Self { doing: format!("log in to {there}"), cause: SqlCause::Refused { code, error } }
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        let kind = match &error.cause {
            SqlCause::Refused { error: failure, .. } => failure.kind,
            _ if error.is_denied() => ErrorKind::Denied,
            _ => ErrorKind::Failed,
        };
        let failure = Self::new(kind, error.to_string());
        match hint(&error.cause) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn hint(cause: &SqlCause) -> Option<String> {
    match cause {
        SqlCause::Server(error) => server_hint(error),
        SqlCause::Refused { error: failure, .. } => failure.hint.clone(),
        SqlCause::Deadline(_) => Some(SLOW_LOGIN_HINT.into()),
        SqlCause::Unreachable(_) => {
            Some("check that the server runs, and that host and port are correct".into())
        }
        SqlCause::Lost(_) | SqlCause::Shape(_) => None,
    }
}

fn server_hint(error: &ServerError) -> Option<String> {
    match error.code {
        code if is_denial(code) => Some(match missing_privilege(&error.message) {
            Some(privilege) => format!("grant {privilege} to Backstop's account (docs/grants.md)"),
            None => "grant Backstop's account the privileges in docs/grants.md".into(),
        }),
        _ => None,
    }
}

/// Returns the privilege that the server's message names: "you need (at least one of) the X
/// privilege(s) for …" or "X command denied to user …".
fn missing_privilege(message: &str) -> Option<&str> {
    if let Some(at) = message.find("the ") {
        let rest = &message[at + 4..];
        if let Some(end) = rest.find(" privilege") {
            return Some(&rest[..end]);
        }
    }
    message.split_once(" command denied").map(|(privilege, _)| privilege)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql_error(code: u16, message: &str) -> Error {
        let server = ServerError { code, state: "42000".into(), message: message.into() };
        SqlError { doing: "run X on db1:3306".into(), cause: SqlCause::Server(server) }.into()
    }

    #[test]
    fn denied_statement_names_the_missing_grant() {
        let text =
            "Access denied; you need (at least one of) the BACKUP_ADMIN privilege(s) for this operation";
        let denied = sql_error(code::SPECIFIC_ACCESS_DENIED, text);
        assert_eq!(denied.kind, ErrorKind::Denied);
        assert!(denied.hint.is_some_and(|hint| hint.contains("grant BACKUP_ADMIN to")));
        let denied =
            sql_error(code::TABLE_ACCESS_DENIED, "SELECT command denied to user 'b'@'h' for table 't'");
        assert!(denied.hint.is_some_and(|hint| hint.contains("grant SELECT to")));
    }

    #[test]
    fn other_errors_keep_their_code() {
        let failed = sql_error(1290, "running with --super-read-only");
        assert_eq!((failed.kind, failed.hint.as_deref()), (ErrorKind::Failed, None));
        assert!(failed.message.contains("error 1290"), "{failed}");
    }
}
