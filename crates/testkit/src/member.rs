//! One server of a test: a server of the testbed, whose failures fail the test.

use std::ops::Deref;
use std::path::Path;

use backstop_adapters::mysql::connection::Connection;
use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_types::gtid::GtidSet;

use crate::server_program::servers;

/// Running server on loopback. Killed and removed when dropped.
pub struct TestMember(backstop_testbed::LocalServer);

impl Deref for TestMember {
    type Target = backstop_testbed::LocalServer;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl TestMember {
    /// Starts a server on `dir/data`, which must hold a data directory. `options` are lines of its
    /// option file.
    pub async fn start_on(dir: &Path, server_id: u32, options: &[String]) -> Self {
        Self::start_with(&servers().await, dir, server_id, options).await
    }

    /// Starts a server as [`TestMember::start_on`] does, with another program.
    pub async fn start_with(servers: &LocalMysqld, dir: &Path, server_id: u32, options: &[String]) -> Self {
        let started = backstop_testbed::LocalServer::start_on(servers, dir, server_id, options).await;
        Self(started.expect("start a server"))
    }

    /// Starts it again after [`TestMember::stop`] or [`TestMember::kill`].
    pub async fn start(&self) {
        self.0.start().await.expect("start a server");
    }

    /// Shuts it down.
    pub async fn stop(&self) {
        self.0.stop().await.expect("stop a server");
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&self) {
        self.0.kill().expect("kill a server");
    }

    /// Opens a session of `root@localhost`.
    pub async fn root(&self) -> Connection {
        self.0.root().await.expect("log in as root")
    }

    /// Runs statements as `root@localhost`, each to its end, within a minute each.
    pub async fn run(&self, statements: &[&str]) {
        self.0.run(statements).await.unwrap_or_else(|error| panic!("{statements:?}: {error}"));
    }

    /// Returns one value.
    pub async fn value(&self, sql: &str) -> String {
        self.0.value(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Returns `@@GLOBAL.gtid_executed`.
    pub async fn gtid_executed(&self) -> GtidSet {
        self.0.gtid_executed().await.expect("a GTID set")
    }

    /// Returns one of its binlog files as the server sends it: without the flag "in use", and, if
    /// `sent` lacks it, without the time of the server's start. The server omits that from the
    /// first file of a dump to a replica that has transactions already.
    pub fn binlog_as_sent(&self, name: &str, sent: &[u8]) -> Vec<u8> {
        as_sent(std::fs::read(self.datadir().join(name)).unwrap(), sent)
    }

    /// Waits until it holds these transactions.
    pub async fn wait_for(&self, set: &GtidSet) {
        self.0.wait_for(set).await.expect("the replica catches up");
    }
}

/// Adapts the bytes of a binlog file as [`TestMember::binlog_as_sent`] does; `own` are the bytes of
/// the file.
pub fn as_sent(mut own: Vec<u8>, sent: &[u8]) -> Vec<u8> {
    const CREATED: std::ops::Range<usize> = 75..79;
    own[21] &= !1;
    if sent.get(CREATED) == Some(&[0; 4]) && own[CREATED] != [0; 4] {
        own[CREATED].fill(0);
        let end = 4 + u32::from_le_bytes(own[13..17].try_into().unwrap()) as usize;
        let checksum = crc32fast::hash(&own[4..end - 4]);
        own[end - 4..end].copy_from_slice(&checksum.to_le_bytes());
    }
    own
}

/// Kills the server on a data directory, if one runs, and waits until it is gone.
pub fn kill_server_on(datadir: &Path) {
    // No panic: this runs while a failed test unwinds, and would hide why it failed.
    let _ = backstop_testbed::processes::kill_on(datadir);
}

/// Returns a free TCP port of loopback.
pub fn free_port() -> u16 {
    backstop_testbed::member::free_port().expect("a free port")
}
