//! A shard: a primary, a candidate primary and further replicas.

use std::path::Path;
use std::time::Duration;

use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_model::credentials::Credentials;
use backstop_model::error::{Error, Result, ResultExt};
use backstop_model::ids::Endpoint;
use tokio::process::Command;

use crate::accounts;
use crate::member::LocalServer;

/// The blocks of `docs/grants.md` that a shard's accounts are made from, if nothing else is said.
pub const DEFAULT_GRANTS: [&str; 3] = ["base", "clone", "replication"];

const COPY_TIMEOUT: Duration = Duration::from_secs(120);

/// Servers in replication with GTID auto-position. The first is the primary, the second the candidate.
pub struct Shard {
    /// The members.
    pub members: Vec<LocalServer>,
    password: String,
}

impl Shard {
    /// Begins a shard without members.
    pub fn empty() -> Self {
        Self { members: Vec::new(), password: accounts::password() }
    }

    /// A shard of `count` members in `base/m1`, `base/m2`, …, on copies of the data directory `template`.
    ///
    /// # Errors
    /// When a server does not start or does not replicate.
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

    /// The member that takes writes.
    ///
    /// # Errors
    /// When there is none.
    pub fn primary(&self) -> Result<&LocalServer> {
        self.members.first().ok_or_else(|| Error::failed("the shard has no primary"))
    }

    /// Where the members listen.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.members.iter().map(LocalServer::endpoint).collect()
    }

    /// How Backstop logs in: the least that `docs/grants.md` gives it.
    pub fn credentials(&self) -> Credentials {
        accounts::credentials(&self.password)
    }

    /// The accounts' password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Makes the accounts of these blocks of `docs/grants.md` on the primary.
    ///
    /// # Errors
    /// When a statement fails.
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
    /// When one does not get there.
    pub async fn settle(&self) -> Result<()> {
        let held = self.primary()?.gtid_executed().await?;
        for replica in self.members.iter().skip(1) {
            replica.wait_for(&held).await?;
        }
        Ok(())
    }

    /// Makes a member follow another with auto-position, and read only.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn follow(&self, replica: &LocalServer, source: &LocalServer) -> Result<()> {
        follow(replica, source, &self.password).await
    }
}

/// Makes a server follow another with auto-position, and read only.
///
/// # Errors
/// When a statement fails.
pub async fn follow(replica: &LocalServer, source: &LocalServer, password: &str) -> Result<()> {
    let change = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, \
         SOURCE_USER='backstop_replication', SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, \
         GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1",
        source.endpoint().port,
    );
    replica.run(&[&change, "SET GLOBAL super_read_only=ON", "START REPLICA"]).await
}

/// Makes a data directory that shards can be started on copies of.
///
/// # Errors
/// With the end of the server's log.
pub async fn make_template(servers: &LocalMysqld, datadir: &Path, options: &[&str]) -> Result<()> {
    let small = ["--innodb-buffer-pool-size=64M", "--innodb-redo-log-capacity=16M"];
    let options: Vec<&str> = small.iter().chain(options).copied().collect();
    servers.initialize(datadir, &options).await?;
    // Every copy is a server of its own.
    std::fs::remove_file(datadir.join("auto.cnf")).failed("remove the template's server UUID")
}

/// Copies a data directory; `to` may exist and be empty.
///
/// # Errors
/// When `cp` fails or takes longer than two minutes.
pub async fn copy(template: &Path, to: &Path) -> Result<()> {
    let doing = format!("copy {} to {}", template.display(), to.display());
    std::fs::create_dir_all(to).failed(&doing)?;
    let mut cp = Command::new("cp");
    cp.args(["-a", "--reflink=auto"]).arg(template.join(".")).arg(to);
    backstop_adapters::command::output(&mut cp, COPY_TIMEOUT, &doing).await.map(drop)
}
