//! Administers a server that is being recovered, whose accounts are the donor's and whose passwords
//! are unknown.
//!
//! The server is started with an init file that creates a temporary administrator,
//! `backstop_recovery@localhost`, with a random password. The statements run inside the server
//! before it accepts connections, and write no binary log. A user who can read the init file can
//! read the data files beside it as well.

#![allow(
    clippy::disallowed_methods,
    reason = "waits for programs and servers of this machine, as their port's implementation"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backstop_binlog::session_setup::SESSION_SETUP;
use backstop_engine::ports::{
    AdminAccess, AdminSession, CheckDepth, MysqldStart, ReadOnly, ReplaySource, Reporter,
};
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_policy::plugins::LoadedPlugins;
use backstop_policy::scheduled_events::PresentEvent;
use backstop_policy::table_check::TablesChecked;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::login::{ReplicationAccount, TlsMode, TlsSettings};
use backstop_types::scheduled_events::EventState;
use backstop_types::topology::Replication;
use secrecy::{ExposeSecret, SecretString};

use super::connection::{Connection, Connector, Login};
use super::dialect::{Dialect, quote_text};
use super::error::SqlError;
use super::replication::replication;
use super::{copy_account, events, instance_state, plugins, replay_settings, secret_file, tables};

/// User name of the temporary administrator.
const ADMIN_USER: &str = "backstop_recovery";
const PASSWORD_FILE: &str = "administrator";
const INIT_FILE: &str = "init.sql";

const REMOVE_ADMIN_HINT: &str = "repeat the same command, or remove it manually on the recovered server: SET sql_log_bin = 0; \
    DROP USER 'backstop_recovery'@'localhost'";

/// Limit for stopping and resetting replication, which waits for what the appliers are doing.
const REPLICATION_STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// Limit for a restarted receiver to reach its source again.
const RECEIVER_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Seconds between a receiver's attempts to reach its source.
const SOURCE_CONNECT_RETRY_SECONDS: u32 = 5;
/// Attempts of a receiver to reach its source: five days at that interval.
const SOURCE_RETRY_COUNT: u32 = 86_400;

/// Opens servers that are being recovered, and sets them up to follow their shard.
#[derive(Debug, Clone)]
pub struct MysqlAdminAccess {
    access: Arc<SharedCredentials>,
}

impl MysqlAdminAccess {
    /// Creates an adapter that uses the credentials as they are when a server joins its shard.
    pub fn new(access: Arc<SharedCredentials>) -> Self {
        Self { access }
    }
}

#[async_trait]
impl AdminAccess for MysqlAdminAccess {
    async fn prepare(&self, private_dir: &Path) -> Result<Vec<String>> {
        let dir = std::path::absolute(private_dir).failed("cannot prepare the recovery's administrator")?;
        secret_file::create_dir(&dir)?;
        let password = match secret_file::read(&dir.join(PASSWORD_FILE))? {
            Some(password) => password,
            None => secret_file::random_password(),
        };
        secret_file::write(&dir.join(PASSWORD_FILE), &password)?;
        let init = dir.join(INIT_FILE);
        secret_file::write(&init, &init_statements(&password))?;
        Ok(vec![format!("--init-file={}", init.display())])
    }

    async fn session(&self, start: &MysqldStart, private_dir: &Path) -> Result<Box<dyn AdminSession>> {
        let doing = format!("cannot log in to the recovered server on {}", start.datadir.display());
        let password = secret_file::read(&private_dir.join(PASSWORD_FILE))?;
        let password = password.ok_or("its temporary administrator no longer exists").failed(&doing)?;
        let login = Login { user: ADMIN_USER.into(), password };
        let mut session = Connector::with_login(login, None).connect(start.socket.as_path()).await?;
        secret_file::remove(&private_dir.join(INIT_FILE))?; // it has done its work
        session.run("SET SESSION sql_log_bin = 0").await?;
        let version: String = session.one("SELECT @@version").await?;
        let dialect = Dialect::of(&version.parse().failed(&doing)?);
        let access = Arc::clone(&self.access);
        Ok(Box::new(MysqlAdminSession { session, dialect, access, private_dir: private_dir.to_owned() }))
    }
}

/// Returns the statements of an init file, one on each line as the server requires.
fn init_statements(password: &SecretString) -> SecretString {
    let account = format!("'{ADMIN_USER}'@'localhost'");
    let identified = format!(
        "{account} IDENTIFIED {} REQUIRE NONE PASSWORD EXPIRE NEVER ACCOUNT UNLOCK",
        secret_file::identified(password).expose_secret()
    );
    SecretString::from(format!(
        "{SESSION_SETUP};\n\
         SET SESSION sql_log_bin = 0;\n\
         SET @backstop_super_read_only = @@GLOBAL.super_read_only;\n\
         SET @backstop_read_only = @@GLOBAL.read_only;\n\
         SET GLOBAL super_read_only = OFF;\n\
         DROP USER IF EXISTS {account};\n\
         CREATE USER {identified};\n\
         GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n\
         SET GLOBAL super_read_only = @backstop_super_read_only;\n\
         SET GLOBAL read_only = @backstop_read_only;\n"
    ))
}

struct MysqlAdminSession {
    session: Connection,
    dialect: Dialect,
    access: Arc<SharedCredentials>,
    private_dir: PathBuf,
}

#[async_trait]
impl AdminSession for MysqlAdminSession {
    async fn server_uuid(&mut self) -> Result<ServerUuid> {
        let uuid: String = self.session.one("SELECT @@server_uuid").await?;
        uuid.parse().failed("cannot read the recovered server's UUID")
    }

    async fn gtid_purged(&mut self) -> Result<GtidSet> {
        self.gtids("SELECT @@GLOBAL.gtid_purged").await
    }

    async fn gtid_executed(&mut self) -> Result<GtidSet> {
        self.gtids("SELECT @@GLOBAL.gtid_executed").await
    }

    async fn enable_semi_sync_replica(&mut self) -> Result<()> {
        let plugin = self.dialect.semi_sync_replica();
        let loaded = format!(
            "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = {} AND PLUGIN_STATUS = 'ACTIVE'",
            quote_text(plugin.name)
        );
        if self.session.one::<u64>(&loaded).await? == 0 {
            let install = format!("INSTALL PLUGIN {} SONAME {}", plugin.name, quote_text(plugin.library));
            self.session.run(&install).await?;
        }
        let variable = self.dialect.variable("rpl_semi_sync_replica_enabled");
        self.session.run(&format!("SET PERSIST {variable} = ON")).await?;
        // The receiver reports its host and port to its source when it connects.
        if self.replication().await?.is_some() {
            self.session.run_within(self.dialect.stop_receiver(), REPLICATION_STOP_TIMEOUT).await?;
            self.session.run(self.dialect.start_receiver()).await?;
            self.wait_for_receiver().await?;
        }
        Ok(())
    }

    async fn leave_copy_login(&mut self, client_file: &Path, socket: &Path) -> Result<()> {
        copy_account::create_copy_account(&mut self.session, client_file, socket).await
    }

    async fn hand_over(&mut self) -> Result<()> {
        let super_read_only: u8 = self.session.one("SELECT @@GLOBAL.super_read_only").await?;
        // A session keeps its privileges after its account is dropped.
        self.session.run("SET GLOBAL super_read_only = OFF").await?;
        let removed = self.remove_administrator().await;
        if super_read_only != 0 {
            self.session.run("SET GLOBAL super_read_only = ON").await?;
        }
        removed.map_err(|error| error.hint(REMOVE_ADMIN_HINT))?;
        secret_file::remove(&self.private_dir.join(INIT_FILE))?;
        secret_file::remove(&self.private_dir.join(PASSWORD_FILE))
    }

    async fn forget_replication(&mut self) -> Result<()> {
        self.session.run_within(self.dialect.stop_replica(), REPLICATION_STOP_TIMEOUT).await?;
        self.session.run_within(self.dialect.reset_replica_all(), REPLICATION_STOP_TIMEOUT).await?;
        Ok(())
    }

    async fn has_memory_tables(&mut self) -> Result<bool> {
        Ok(!tables::memory_tables(&mut self.session).await?.is_empty())
    }

    async fn reset_gtids(&mut self) -> Result<()> {
        tables::use_memory_tables(&mut self.session).await?;
        Ok(self.session.run_within(self.dialect.reset_binary_logs(), REPLICATION_STOP_TIMEOUT).await?)
    }

    async fn set_gtid_purged(&mut self, set: &GtidSet) -> Result<()> {
        let sql = format!("SET GLOBAL gtid_purged = {}", quote_text(&set.to_string()));
        Ok(self.session.run_within(&sql, REPLICATION_STOP_TIMEOUT).await?)
    }

    async fn check_tables(&mut self, depth: CheckDepth, reporter: &dyn Reporter) -> Result<TablesChecked> {
        tables::check_tables(&mut self.session, depth, reporter).await
    }

    async fn follow(&mut self, source: &Endpoint) -> Result<()> {
        // A recovery may have taken hours, so the credentials may have changed. If they cannot be
        // read again, the earlier ones are used.
        let _ = self.access.reread();
        let credentials = self.access.current();
        let account = credentials.replication_account();
        let tls = offered_tls(&account, credentials.tls_for(source), source).await?;
        let change = self.dialect.change_source(&source_options(source, &account, &tls));
        self.session.run_within(self.dialect.stop_replica(), REPLICATION_STOP_TIMEOUT).await?;
        let what = format!("set the replication source {source}");
        self.session.run_secret(&what, &SecretString::from(change)).await?;
        Ok(self.session.run(self.dialect.start_replica()).await?)
    }

    async fn replication(&mut self) -> Result<Option<Replication>> {
        Ok(replication(&mut self.session, self.dialect).await?)
    }

    async fn relax_durability(&mut self) -> Result<Vec<(String, String)>> {
        Ok(replay_settings::relax_durability(&mut self.session, self.dialect).await?)
    }

    async fn restore_settings(&mut self, settings: &[(String, String)]) -> Result<()> {
        replay_settings::set_variables(&mut self.session, settings).await?;
        Ok(self.session.run_within("FLUSH LOCAL BINARY LOGS, ENGINE LOGS", REPLICATION_STOP_TIMEOUT).await?)
    }

    async fn replay_from(&mut self, server: &ReplaySource, until: &GtidSet) -> Result<()> {
        self.forget_replication().await?;
        let change = SecretString::from(self.dialect.change_source(&replay_settings::source_options(server)));
        self.session.run_secret("set the binlog server as replication source", &change).await?;
        let start = format!(
            "{} UNTIL SQL_AFTER_GTIDS = {}",
            self.dialect.start_replica(),
            quote_text(&until.to_string())
        );
        Ok(self.session.run_within(&start, REPLICATION_STOP_TIMEOUT).await?)
    }

    async fn events(&mut self) -> Result<Vec<PresentEvent>> {
        Ok(events::read_events(&mut self.session).await?)
    }

    async fn set_event(&mut self, event: &PresentEvent, state: EventState) -> Result<Option<String>> {
        match events::set_event_state(&mut self.session, event, state).await {
            Ok(()) => Ok(None),
            Err(error) if error.is_lost() => Err(error.into()),
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    async fn start_event_scheduler(&mut self) -> Result<()> {
        Ok(self.session.run("SET GLOBAL event_scheduler = ON").await?)
    }

    async fn loaded(&mut self) -> Result<LoadedPlugins> {
        Ok(plugins::loaded_plugins(&mut self.session).await?)
    }

    async fn set_super_read_only(&mut self, on: ReadOnly) -> Result<()> {
        let sql = match on {
            ReadOnly::Super => "SET GLOBAL super_read_only = ON",
            ReadOnly::Off => "SET GLOBAL read_only = OFF", // which turns super_read_only off too
        };
        Ok(self.session.run(sql).await?)
    }
}

impl MysqlAdminSession {
    async fn remove_administrator(&mut self) -> Result<()> {
        self.session.run(&format!("DROP USER IF EXISTS '{ADMIN_USER}'@'localhost'")).await?;
        let left = format!("SELECT COUNT(*) FROM mysql.user WHERE User = '{ADMIN_USER}'");
        match self.session.one::<u64>(&left).await? {
            0 => Ok(()),
            _ => Err(Error::failed(format!(
                "cannot remove the temporary administrator {ADMIN_USER}: it still exists"
            ))),
        }
    }

    async fn wait_for_receiver(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let Some(channel) = self.replication().await? else { return Ok(()) };
            if channel.io_running {
                return Ok(());
            }
            if begin.elapsed() > RECEIVER_CONNECT_TIMEOUT {
                let why = channel.last_error.unwrap_or_else(|| "it is still connecting".into());
                let message = format!("cannot restart the receiver from {}: {why}", channel.source);
                return Err(Error::failed(message).hint("check the source and the replication account"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn gtids(&mut self, sql: &str) -> Result<GtidSet> {
        let text: String = self.session.one(sql).await?;
        Ok(instance_state::gtids(&self.session, &text)?)
    }
}

/// Returns the protection that the source offers where TLS is preferred. A replica cannot itself
/// fall back to plain text.
async fn offered_tls(
    account: &ReplicationAccount,
    tls: TlsSettings,
    source: &Endpoint,
) -> Result<TlsSettings, SqlError> {
    if tls.mode != TlsMode::Preferred {
        return Ok(tls);
    }
    let login = Login { user: account.user.clone(), password: account.password.clone() };
    let mut session = Connector::with_login(login, Some(tls.clone())).connect(source).await?;
    let encrypted = session.is_encrypted().await?;
    session.close().await;
    let mode = if encrypted { TlsMode::Required } else { TlsMode::Off };
    Ok(TlsSettings { mode, ..tls })
}

/// Returns the options with which a replica follows a source: by GTID, with the connection
/// protected as the credentials say.
fn source_options<'a>(
    source: &Endpoint,
    account: &ReplicationAccount,
    tls: &TlsSettings,
) -> Vec<(&'a str, String)> {
    let switch = |on: bool| u8::from(on).to_string();
    let verifies = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let ca = tls.ca.as_ref().filter(|_| verifies).map(|ca| ca.display().to_string());
    let ca_folder = if verifies && ca.is_none() { "/etc/ssl/certs" } else { "" };
    vec![
        ("SOURCE_HOST", quote_text(&source.host)),
        ("SOURCE_PORT", source.port.to_string()),
        ("SOURCE_USER", quote_text(&account.user)),
        ("SOURCE_PASSWORD", quote_text(account.password.expose_secret())),
        ("SOURCE_AUTO_POSITION", switch(true)),
        ("SOURCE_SSL", switch(tls.mode != TlsMode::Off)),
        ("SOURCE_SSL_CA", quote_text(&ca.unwrap_or_default())),
        ("SOURCE_SSL_CAPATH", quote_text(ca_folder)),
        ("SOURCE_SSL_VERIFY_SERVER_CERT", switch(tls.mode == TlsMode::VerifyIdentity)),
        ("GET_SOURCE_PUBLIC_KEY", switch(true)),
        ("SOURCE_CONNECT_RETRY", SOURCE_CONNECT_RETRY_SECONDS.to_string()),
        ("SOURCE_RETRY_COUNT", SOURCE_RETRY_COUNT.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: TlsMode, ca: Option<&str>) -> String {
        let account = ReplicationAccount { user: "r".into(), password: SecretString::from("it's") };
        let tls = TlsSettings { mode, ca: ca.map(PathBuf::from) };
        let options = source_options(&Endpoint::new("db1", 3306), &account, &tls);
        options.iter().map(|(name, value)| format!("{name}={value} ")).collect()
    }

    #[test]
    fn replication_uses_the_tls_mode_of_the_credentials() {
        assert!(options(TlsMode::Off, None).contains("SOURCE_SSL=0 "));
        let required = options(TlsMode::Required, Some("/ca.pem"));
        assert!(required.contains("SOURCE_SSL=1 SOURCE_SSL_CA='' "), "a CA would make it verify: {required}");
        let identity = options(TlsMode::VerifyIdentity, Some("/ca.pem"));
        assert!(
            identity.contains("SOURCE_SSL_CA='/ca.pem' SOURCE_SSL_CAPATH='' SOURCE_SSL_VERIFY_SERVER_CERT=1")
        );
        assert!(options(TlsMode::VerifyCa, None).contains("SOURCE_SSL_CAPATH='/etc/ssl/certs'"));
        assert!(identity.contains("SOURCE_PASSWORD='it''s'"));
    }
}
