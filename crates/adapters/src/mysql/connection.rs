//! Sessions on a MySQL server: every statement has a deadline, every error keeps the server's code.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::login_error;
use backstop_binlog::session_setup::SESSION_SETUP;
use backstop_config::credentials::Credentials;
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_types::ids::Endpoint;
use backstop_types::login::{TlsMode, TlsSettings};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Params, Row};
use secrecy::{ExposeSecret, SecretString};

use super::error::{ServerError, SqlCause, SqlError};
use super::tls;

/// Limit for opening a connection, including TLS and login.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a statement unless the caller sets another.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits for a packet, in bytes, and for a session's idle time in the driver. The driver would
/// otherwise query the server for both before the session's first statement; with `sql_select_limit
/// = 0` that query returns no row.
const MAX_PACKET_BYTES: usize = 1 << 30;
const IDLE_SECONDS: usize = 28_800;

/// User name and password of a login.
#[derive(Debug, Clone)]
pub struct Login {
    /// MySQL user name.
    pub user: String,
    /// Its password; empty for none.
    pub password: SecretString,
}

/// Address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP address.
    Tcp(Endpoint),
    /// Unix socket on this host; never encrypted.
    Socket(PathBuf),
}

impl From<&Endpoint> for Address {
    fn from(endpoint: &Endpoint) -> Self {
        Self::Tcp(endpoint.clone())
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Socket(path.to_owned())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) => endpoint.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// Opens sessions.
#[derive(Debug, Clone)]
pub struct Connector(Logins);

#[derive(Debug, Clone)]
enum Logins {
    One(LoginClient),
    Shard(Arc<SharedCredentials>),
}

/// A login and its TLS policy.
#[derive(Debug, Clone)]
struct LoginClient {
    login: Login,
    tls: Option<TlsSettings>,
}

impl Connector {
    /// Creates a connector for the account that does everything but replication.
    pub fn new(credentials: &Credentials) -> Self {
        Self(Logins::One(LoginClient::of(credentials)))
    }

    /// Creates a connector with another login. Without a TLS policy, TLS is preferred on loopback
    /// and required elsewhere.
    pub fn with_login(login: Login, tls: Option<TlsSettings>) -> Self {
        Self(Logins::One(LoginClient { login, tls }))
    }

    /// Creates a connector for the same account, whose credentials may change between connections.
    pub fn of(access: Arc<SharedCredentials>) -> Self {
        Self(Logins::Shard(access))
    }

    /// Opens a session within [`CONNECT_TIMEOUT`]. With shared credentials a wrong password takes
    /// longer: see [`SharedCredentials::log_in`].
    ///
    /// # Errors
    /// Returns [`SqlCause::Unreachable`] with the address if nothing answers there,
    /// [`SqlCause::Refused`] if the server refuses the login, and [`SqlCause::Lost`] if TLS fails.
    pub async fn connect(&self, address: impl Into<Address>) -> Result<Connection, SqlError> {
        let address = &address.into();
        match &self.0 {
            Logins::One(client) => client.connect(address).await,
            Logins::Shard(access) => {
                let connect = |credentials: Credentials| async move {
                    LoginClient::of(&credentials).connect(address).await
                };
                access.log_in(&address.to_string(), connect).await
            }
        }
    }
}

impl LoginClient {
    fn of(credentials: &Credentials) -> Self {
        let login = Login { user: credentials.user.clone(), password: credentials.password.clone() };
        Self { login, tls: credentials.tls.clone() }
    }

    async fn connect(&self, address: &Address) -> Result<Connection, SqlError> {
        let doing = format!("connect to {address} as {}", self.login.user);
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.open(address)).await;
        let conn = match opened {
            Ok(Ok(conn)) => conn,
            Ok(Err(cause)) => return Err(SqlError { doing, cause }),
            Err(_) => return Err(SqlError { doing, cause: SqlCause::Deadline(CONNECT_TIMEOUT) }),
        };
        Ok(Connection { conn: Some(conn), address: address.clone() })
    }

    async fn open(&self, address: &Address) -> Result<Conn, SqlCause> {
        let mode = self.mode_for(address);
        tls::check(mode, self.tls.as_ref())
            .map_err(|failure| SqlCause::Refused { code: None, error: failure })?;
        let mut conn =
            self.log_in(address, mode).await.map_err(|error| connect_cause(error, &self.login.user))?;
        match conn.query_drop(SESSION_SETUP).await {
            Err(mysql_async::Error::Io(error)) => {
                Err(SqlCause::Refused { code: None, error: login_error::cut_off_error(&error.to_string()) })
            }
            Err(error) => Err(connect_cause(error, &self.login.user)),
            Ok(()) => Ok(conn),
        }
    }

    async fn log_in(&self, address: &Address, mode: TlsMode) -> mysql_async::Result<Conn> {
        let error = match Conn::new(self.options(address, mode, None)).await {
            Ok(conn) => return Ok(conn),
            Err(error) => error,
        };
        match mode {
            TlsMode::Preferred if tls::is_failure(&error) => {
                Conn::new(self.options(address, TlsMode::Off, None)).await
            }
            TlsMode::VerifyCa => match tls::other_name(&error) {
                Some(name) => Conn::new(self.options(address, mode, Some(&name))).await,
                None => Err(error),
            },
            _ => Err(error),
        }
    }

    fn mode_for(&self, address: &Address) -> TlsMode {
        match address {
            Address::Socket(_) => TlsMode::Off,
            Address::Tcp(endpoint) => {
                let default = if endpoint.is_loopback() { TlsMode::Preferred } else { TlsMode::Required };
                self.tls.as_ref().map_or(default, |tls| tls.mode)
            }
        }
    }

    fn options(&self, address: &Address, mode: TlsMode, name: Option<&str>) -> Opts {
        let builder = OptsBuilder::default()
            .user(Some(self.login.user.clone()))
            .pass(Some(self.login.password.expose_secret().to_owned()))
            .prefer_socket(false)
            .stmt_cache_size(0)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .max_allowed_packet(Some(MAX_PACKET_BYTES))
            .wait_timeout(Some(IDLE_SECONDS))
            .connect_attribute("program_name", "backstop");
        let builder = match address {
            Address::Tcp(endpoint) => builder.ip_or_hostname(endpoint.host.clone()).tcp_port(endpoint.port),
            Address::Socket(path) => builder.socket(Some(path.to_string_lossy().into_owned())),
        };
        builder.ssl_opts(tls::options(mode, self.tls.as_ref(), name)).into()
    }
}

/// A session, which runs one statement at a time. After a deadline has passed the session is given
/// up, and every later statement fails with [`SqlCause::Lost`].
pub struct Connection {
    conn: Option<Conn>,
    address: Address,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).field("id", &self.id()).finish()
    }
}

impl Connection {
    /// Returns the server's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns `CONNECTION_ID()`; `None` once the session is given up.
    pub fn id(&self) -> Option<u32> {
        self.conn.as_ref().map(Conn::id)
    }

    /// Returns true if the connection is encrypted.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn is_encrypted(&mut self) -> Result<bool, SqlError> {
        let cipher: Vec<(String, String)> = self.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
        Ok(cipher.iter().any(|(_, name)| !name.is_empty()))
    }

    /// Runs a statement and returns its rows, within [`STATEMENT_TIMEOUT`].
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn query<T>(&mut self, sql: &str) -> Result<Vec<T>, SqlError>
    where
        T: FromRow + Send + 'static,
    {
        self.query_within(sql, STATEMENT_TIMEOUT).await
    }

    /// Runs [`Connection::query`] with another deadline.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn query_within<T>(&mut self, sql: &str, deadline: Duration) -> Result<Vec<T>, SqlError>
    where
        T: FromRow + Send + 'static,
    {
        let doing = self.doing(sql);
        let conn = self.conn(&doing)?;
        let answer = within(deadline, conn.query::<Row, _>(sql)).await;
        let rows = self.settle(&doing, answer)?;
        rows.into_iter().map(|row| from_row(&doing, row)).collect()
    }

    /// Returns the first row of a statement's result.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn first<T>(&mut self, sql: &str) -> Result<Option<T>, SqlError>
    where
        T: FromRow + Send + 'static,
    {
        Ok(self.query(sql).await?.into_iter().next())
    }

    /// Returns the only row of a statement that always has one.
    ///
    /// # Errors
    /// See [`SqlCause`]; [`SqlCause::Shape`] if there is no row.
    pub async fn one<T>(&mut self, sql: &str) -> Result<T, SqlError>
    where
        T: FromRow + Send + 'static,
    {
        let doing = self.doing(sql);
        self.first(sql).await?.ok_or(SqlError { doing, cause: SqlCause::Shape("no row".into()) })
    }

    /// Runs a statement and discards its rows.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn run(&mut self, sql: &str) -> Result<(), SqlError> {
        self.run_within(sql, STATEMENT_TIMEOUT).await
    }

    /// Runs [`Connection::run`] with another deadline.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn run_within(&mut self, sql: &str, deadline: Duration) -> Result<(), SqlError> {
        let doing = self.doing(sql);
        let conn = self.conn(&doing)?;
        let answer = within(deadline, conn.query_drop(sql)).await;
        self.settle(&doing, answer)
    }

    /// Runs a statement that is not in UTF-8, since the session's `character_set_client` is not.
    /// Errors quote `what` in place of the statement.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn run_bytes(&mut self, what: &str, sql: Vec<u8>) -> Result<(), SqlError> {
        let doing = format!("run {what} on {}", self.address);
        let conn = self.conn(&doing)?;
        let answer = within(STATEMENT_TIMEOUT, conn.query_drop(sql)).await;
        self.settle(&doing, answer)
    }

    /// Runs a statement that contains a secret. Errors quote `what` and the server's code, but not
    /// its message, which could quote the statement.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn run_secret(&mut self, what: &str, sql: &SecretString) -> Result<(), SqlError> {
        let doing = format!("{what} on {}", self.address);
        let conn = self.conn(&doing)?;
        let answer = within(STATEMENT_TIMEOUT, conn.query_drop(sql.expose_secret())).await;
        self.settle(&doing, answer).map_err(|mut error| {
            if let SqlCause::Server(server) = &mut error.cause
                && server.code == 1064
            {
                server.message = "the server cannot parse the statement".into();
            }
            error
        })
    }

    /// Runs a statement with parameters and returns its rows.
    ///
    /// # Errors
    /// See [`SqlCause`].
    pub async fn exec<T, P>(&mut self, sql: &str, params: P) -> Result<Vec<T>, SqlError>
    where
        T: FromRow + Send + 'static,
        P: Into<Params> + Send,
    {
        let doing = self.doing(sql);
        let conn = self.conn(&doing)?;
        let answer = within(STATEMENT_TIMEOUT, conn.exec::<Row, _, _>(sql, params.into())).await;
        let rows = self.settle(&doing, answer)?;
        rows.into_iter().map(|row| from_row(&doing, row)).collect()
    }

    /// Ends the session in an orderly way, within a second.
    pub async fn close(mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), conn.disconnect()).await;
        }
    }

    /// Describes a statement by its leading keywords, which never hold data: `run SHOW REPLICA
    /// STATUS on db1:3306`.
    fn doing(&self, sql: &str) -> String {
        format!("run {} on {}", verb(sql), self.address)
    }

    fn conn(&mut self, doing: &str) -> Result<&mut Conn, SqlError> {
        let lost = || SqlError {
            doing: doing.to_owned(),
            cause: SqlCause::Lost("the session was closed after an earlier error".into()),
        };
        self.conn.as_mut().ok_or_else(lost)
    }

    /// Gives up the session unless the server itself answered: unread bytes on the connection, or a
    /// statement that may still be running, must not be mistaken for the answer to a later
    /// statement.
    fn settle<T>(&mut self, doing: &str, answer: TimedAnswer<T>) -> Result<T, SqlError> {
        let cause = match answer {
            TimedAnswer::Done(Ok(value)) => return Ok(value),
            TimedAnswer::Done(Err(error)) => statement_cause(error),
            TimedAnswer::Late(deadline) => SqlCause::Deadline(deadline),
        };
        if !matches!(cause, SqlCause::Server(_)) {
            self.conn = None;
        }
        Err(SqlError { doing: doing.to_owned(), cause })
    }
}

enum TimedAnswer<T> {
    Done(mysql_async::Result<T>),
    Late(Duration),
}

async fn within<T>(deadline: Duration, work: impl Future<Output = mysql_async::Result<T>>) -> TimedAnswer<T> {
    match tokio::time::timeout(deadline, work).await {
        Ok(done) => TimedAnswer::Done(done),
        Err(_) => TimedAnswer::Late(deadline),
    }
}

fn from_row<T: FromRow>(doing: &str, row: Row) -> Result<T, SqlError> {
    T::from_row_opt(row).map_err(|_| SqlError {
        doing: doing.to_owned(),
        cause: SqlCause::Shape("the columns are not of the expected types".into()),
    })
}

/// Returns the leading words of a statement that are in upper case, at most four.
fn verb(sql: &str) -> String {
    let keyword = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase());
    let words: Vec<_> = sql.split_whitespace().take_while(keyword).take(4).collect();
    if words.is_empty() { "a statement".into() } else { words.join(" ") }
}

fn connect_cause(error: mysql_async::Error, user: &str) -> SqlCause {
    use mysql_async::{DriverError, Error, IoError};
    if let Some(why) = tls::explain(&error) {
        return SqlCause::Lost(why);
    }
    let unknown =
        |plugin: &str| SqlCause::Refused { code: None, error: login_error::unknown_plugin(plugin, user) };
    match error {
        Error::Server(error) => match login_error::login_error(error.code, &error.message, user) {
            Some(failure) => SqlCause::Refused { code: Some(error.code), error: failure },
            None => statement_cause(Error::Server(error)),
        },
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => unknown(&name),
        Error::Driver(DriverError::CleartextPluginDisabled) => unknown("mysql_clear_password"),
        Error::Driver(DriverError::MysqlOldPasswordDisabled) => unknown("mysql_old_password"),
        Error::Io(IoError::Io(error)) => SqlCause::Unreachable(error.to_string()),
        other => statement_cause(other),
    }
}

fn statement_cause(error: mysql_async::Error) -> SqlCause {
    use mysql_async::Error;
    match error {
        Error::Server(error) => {
            SqlCause::Server(ServerError { code: error.code, state: error.state, message: error.message })
        }
        other => SqlCause::Lost(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_statement_without_its_data() {
        assert_eq!(verb("SHOW REPLICA STATUS"), "SHOW REPLICA STATUS");
        assert_eq!(verb("CREATE USER 'x'@'y' IDENTIFIED BY 'secret'"), "CREATE USER");
        assert_eq!(verb("select 'secret'"), "a statement");
    }

    #[test]
    fn loopback_prefers_tls_and_others_require_it() {
        let login = Login { user: "b".into(), password: SecretString::from("s3cret") };
        let client = LoginClient { login, tls: None };
        assert_eq!(client.mode_for(&(&Endpoint::new("127.0.0.1", 1)).into()), TlsMode::Preferred);
        assert_eq!(client.mode_for(&(&Endpoint::new("db1", 1)).into()), TlsMode::Required);
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
