//! Shard: a primary, a candidate primary and further replicas.

use std::path::Path;
use std::time::Duration;

use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_config::credentials::Credentials;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::ids::Endpoint;
use tokio::process::Command;

use crate::accounts;
use crate::member::LocalServer;

/// Blocks of `docs/grants.md` for a shard's accounts by default.
pub const DEFAULT_GRANTS: [&str; 3] = ["base", "clone", "replication"];

const COPY_TIMEOUT: Duration = Duration::from_secs(120);

/// Servers in replication with GTID auto-position. The first is the primary, the second the
/// candidate.
pub struct Shard {
    /// Members of the shard.
    pub members: Vec<LocalServer>,
    password: String,
}

impl Shard {
    /// Returns a shard without members.
    pub fn empty() -> Self {
        Self { members: Vec::new(), password: accounts::password() }
    }

    /// Starts a shard of `count` members in `base/m1`, `base/m2`, …, on copies of the data
    /// directory `template`.
    ///
    /// # Errors
    /// Returns an error if a server does not start or does not replicate.
    pub async fn start(servers: &LocalMysqld, template: &Path, base: &Path, count: u32) -> Result<Self> {
        let mut shard = Self::empty();
        for number in 1..=count {
            let dir = base.join(format!("m{number}"));
            copy(template, &dir.join("data")).await?;
            shard.members.push(LocalServer::start_on(servers, &dir, 100 + number, &[]).await?);
        }
        shard.create_accounts(&DEFAULT_GRANTS).await?;
        for replica in shard.members.iter().skip(1) {
            shard.follow(replica, shard.primary()?).await?;
        }
        shard.settle().await?;
        Ok(shard)
    }

    /// Returns the member that takes writes.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn primary(&self) -> Result<&LocalServer> {
        self.members.first().ok_or_else(|| Error::failed("the shard has no primary"))
    }

    /// Returns the endpoints of the members.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.members.iter().map(LocalServer::endpoint).collect()
    }

    /// Returns Backstop's credentials: those with the minimum privileges of `docs/grants.md`.
    pub fn credentials(&self) -> Credentials {
        accounts::credentials(&self.password)
    }

    /// Returns the accounts' password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Creates the accounts of these blocks of `docs/grants.md` on the primary.
    ///
    /// # Errors
    /// Returns an error if a statement fails.
    pub async fn create_accounts(&self, blocks: &[&str]) -> Result<()> {
        let mut statements = Vec::new();
        for block in blocks {
            statements.extend(accounts::statements(block, &self.password)?);
        }
        self.primary()?.run(&statements).await
    }

    /// Waits until every replica holds what the primary holds now.
    ///
    /// # Errors
    /// Returns an error if a replica does not catch up in time.
    pub async fn settle(&self) -> Result<()> {
        let held = self.primary()?.gtid_executed().await?;
        for replica in self.members.iter().skip(1) {
            replica.wait_for(&held).await?;
        }
        Ok(())
    }

    /// Makes a member a read-only replica of another with auto-position.
    ///
    /// # Errors
    /// Returns an error if a statement fails.
    pub async fn follow(&self, replica: &LocalServer, source: &LocalServer) -> Result<()> {
        follow(replica, source, &self.password).await
    }
}

/// Makes a server a read-only replica of another with auto-position.
///
/// # Errors
/// Returns an error if a statement fails.
pub async fn follow(replica: &LocalServer, source: &LocalServer, password: &str) -> Result<()> {
    let change = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, \
         SOURCE_USER='backstop_replication', SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, \
         GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1",
        source.endpoint().port,
    );
    replica.run(&[&change, "SET GLOBAL super_read_only=ON", "START REPLICA"]).await
}

/// Creates a data directory that serves as a template for shards.
///
/// # Errors
/// Returns an error with the end of the server's log.
pub async fn make_template(servers: &LocalMysqld, datadir: &Path, options: &[&str]) -> Result<()> {
    let small = ["--innodb-buffer-pool-size=64M", "--innodb-redo-log-capacity=16M"];
    let options: Vec<&str> = small.iter().chain(options).copied().collect();
    servers.initialize(datadir, &options).await?;
    // Every copy is a separate server.
    std::fs::remove_file(datadir.join("auto.cnf")).failed("cannot remove the template's server UUID")
}

/// Copies a data directory; `to` may exist and be empty.
///
/// # Errors
/// Returns an error if `cp` fails or takes longer than two minutes.
pub async fn copy(template: &Path, to: &Path) -> Result<()> {
    let doing = format!("cannot copy {} to {}", template.display(), to.display());
    std::fs::create_dir_all(to).failed(&doing)?;
    let mut cp = Command::new("cp");
    cp.args(["-a", "--reflink=auto"]).arg(template.join(".")).arg(to);
    backstop_adapters::command::output(&mut cp, COPY_TIMEOUT, &doing).await.map(drop)
}
