//! Session of a replica on a server: queries before the stream begins ("Text Protocol": COM_QUERY
//! and its result set).

use std::time::Duration;

use backstop_types::error::{Error, Result};
use backstop_types::ids::Endpoint;
use backstop_types::login::{ReplicationAccount, TlsSettings};

use crate::codec::FieldReader;
use crate::connection::PacketConnection;
use crate::dial::{Dial, TcpDial};
use crate::handshake::{log_in, login_refused, statement_refused};
use crate::login_error;
use crate::session_setup::SESSION_SETUP;

/// Options for connecting and logging in to a server.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The server's address.
    pub endpoint: Endpoint,
    /// The account; it needs REPLICATION SLAVE and REPLICATION CLIENT.
    pub account: ReplicationAccount,
    /// Protection of the connection.
    pub tls: TlsSettings,
    /// Longest duration of connecting, of each packet of the login and of each answer.
    pub deadline: Duration,
}

/// A session after the login.
pub struct Session {
    pub(crate) connection: PacketConnection,
    /// The server's version from its greeting.
    pub version: String,
}

/// A row of a result: text, or NULL.
pub type Row = Vec<Option<String>>;

impl Session {
    /// Connects through TCP and logs in.
    ///
    /// # Errors
    /// As [`Session::open_through`].
    pub async fn open(connect: &ConnectOptions) -> Result<Self> {
        Self::open_through(&TcpDial, connect).await
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Denied`](backstop_types::error::ErrorKind::Denied) if the server
    /// rejects the login, [`ErrorKind::Refused`](backstop_types::error::ErrorKind::Refused) if it
    /// does not support the required TLS, else a failure; the message names the server.
    pub async fn open_through(dial: &dyn Dial, connect: &ConnectOptions) -> Result<Self> {
        let context = format!("cannot connect to {} as {}", connect.endpoint, connect.account.user);
        Self::open_plainly(dial, connect).await.map_err(|error| error.during(context))
    }

    async fn open_plainly(dial: &dyn Dial, connect: &ConnectOptions) -> Result<Self> {
        let socket = dial.connect(&connect.endpoint, connect.deadline).await?;
        let connection = PacketConnection::over(socket, connect.deadline);
        let (host, account) = (&connect.endpoint.host, &connect.account);
        let (connection, version) = log_in(connection, host, account, &connect.tls).await?;
        let mut session = Self { connection, version };
        session.begin(&connect.account.user).await?;
        Ok(session)
    }

    async fn begin(&mut self, user: &str) -> Result<()> {
        self.connection.command(&[&[3], SESSION_SETUP.as_bytes()].concat()).await?;
        let answer = self.connection.reader.packet().await;
        login_refused(&answer.map_err(|error| login_error::cut_off_error(&error.message))?, user)
    }

    /// True if the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.connection.encrypted
    }

    /// Executes a statement and returns its rows.
    ///
    /// # Errors
    /// Returns the server's error, or an error if the connection broke.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        let mut command = vec![3];
        command.extend(sql.as_bytes());
        self.connection.command(&command).await?;
        let first = self.connection.reader.packet().await?;
        statement_refused(&first)?;
        if first.first() == Some(&0) {
            return Ok(Vec::new());
        }
        let bad = || Error::failed("cannot read an answer: its format is unknown");
        let columns = FieldReader::new(&first).packed().ok_or_else(bad)?;
        for _ in 0..=columns {
            self.connection.reader.packet().await?; // the columns' definitions and EOF
        }
        let mut rows = Vec::new();
        loop {
            let packet = self.connection.reader.packet().await?;
            statement_refused(&packet)?;
            if is_eof(&packet) {
                return Ok(rows);
            }
            rows.push(row(&packet, columns).ok_or_else(bad)?);
        }
    }

    /// Returns the only value of a statement; `None` for NULL.
    ///
    /// # Errors
    /// Returns the same errors as [`Session::query`].
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>> {
        let rows = self.query(sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }
}

/// True for EOF: `fe` · warnings u16 · status u16. A row that begins with `fe` is far longer.
pub(crate) fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

/// Parses a row: for each column a length-encoded string, or `fb` for NULL.
fn row(packet: &[u8], columns: u64) -> Option<Row> {
    let mut row = Row::new();
    let mut rest = packet;
    for _ in 0..columns {
        if let Some((0xfb, after)) = rest.split_first() {
            row.push(None);
            rest = after;
            continue;
        }
        let mut fields = FieldReader::new(rest);
        row.push(Some(String::from_utf8_lossy(fields.packed_bytes()?).into_owned()));
        rest = fields.rest();
    }
    rest.is_empty().then_some(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_with_null_are_read() {
        assert_eq!(row(b"\x02ab\xfb\x00", 3), Some(vec![Some("ab".into()), None, Some(String::new())]));
        assert_eq!((row(b"\x02a", 1), row(b"\x01ab", 1)), (None, None));
    }

    proptest! {
        #[test]
        fn arbitrary_rows_are_read_or_refused(bytes: Vec<u8>, columns in 0_u64..9) {
            let _ = (row(&bytes, columns), is_eof(&bytes));
        }
    }
}
