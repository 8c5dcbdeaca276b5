//! Shard of real servers: a primary, a candidate primary and a replica.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_config::credentials::Credentials;
use backstop_host::process_start_ticks;
use backstop_types::ids::Endpoint;

use crate::member::{TestMember, kill_server_on};
use crate::server_program::{QuietReporter, server_program};
use crate::server_slots::ServerSlots;
use crate::{accounts, datadir_template, server_wrapper};

/// Layout of a test's shard.
#[derive(Debug, Clone)]
pub struct ShardLayout {
    /// Number of members: 1 to 4. The first is the primary, the second the candidate primary.
    pub members: usize,
    /// Lines for every member's option file.
    pub options: Vec<String>,
    /// Options for initialising a data directory, for example `--innodb-page-size=8k`; also written
    /// to the option files.
    pub made_with: Vec<&'static str>,
    /// Folder of the members' folders (`m1`, `m2`, …, each with `data`); `None`: a temporary one.
    /// The shard uses a `data` folder that exists (a subvolume, a mount).
    pub base: Option<PathBuf>,
    /// Server program; `None`: the tests' own.
    pub program: Option<PathBuf>,
    /// Give each member a second volume, with its redo log: its folder `redo`, which only its own
    /// processes see, as `redo` in the shard's folder. Only root can do that.
    pub redo_volume: bool,
    /// Blocks of `docs/grants.md` for Backstop's account.
    pub grants: Vec<&'static str>,
}

impl Default for ShardLayout {
    fn default() -> Self {
        Self {
            members: 3,
            options: Vec::new(),
            made_with: Vec::new(),
            base: None,
            program: None,
            redo_volume: false,
            grants: accounts::ALL_BACKUPS.to_vec(),
        }
    }
}

impl ShardLayout {
    /// Returns the layout of one server that replicates nothing.
    pub fn single() -> Self {
        Self { members: 1, ..Self::default() }
    }

    /// Adds a line to every option file.
    #[must_use]
    pub fn option(mut self, line: &str) -> Self {
        self.options.push(line.to_owned());
        self
    }
}

/// Running shard. Dropping it kills and removes everything, also after a panic. One test may hold
/// one.
pub struct TestShard {
    /// Members. Dropped before their folder.
    pub members: Vec<TestMember>,
    /// Server program.
    pub program: PathBuf,
    password: String,
    base: PathBuf,
    _slots: ServerSlots,
}

impl TestShard {
    /// Starts a primary, a candidate and a replica, or the members of the layout, in replication
    /// with GTID auto-position.
    pub async fn start(layout: ShardLayout) -> Self {
        let slots = ServerSlots::take(layout.members + 1).await;
        sweep();
        let base = layout.base.clone().unwrap_or_else(temporary);
        std::fs::create_dir_all(&base).expect("create the shard's folder");
        let program = match &layout.program {
            Some(program) => program.clone(),
            None if layout.redo_volume => server_wrapper::with_redo_volume(&base).await,
            None => server_program().await.mysqld.clone(),
        };
        let mut shard =
            Self { members: Vec::new(), program, password: accounts::password(), base, _slots: slots };
        for number in 1..=layout.members {
            let member = shard.start_member(number, &layout).await;
            shard.members.push(member);
        }
        shard.create_accounts(&layout).await;
        for replica in &shard.members[1..] {
            shard.follow(replica, shard.primary()).await;
        }
        shard.settle().await;
        shard
    }

    /// Returns the member that takes writes.
    pub fn primary(&self) -> &TestMember {
        &self.members[0]
    }

    /// Returns the candidate primary.
    pub fn candidate(&self) -> &TestMember {
        &self.members[1]
    }

    /// Returns the first of the other replicas.
    pub fn replica(&self) -> &TestMember {
        &self.members[2]
    }

    /// Returns the endpoints of the members.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.members.iter().map(|member| member.endpoint()).collect()
    }

    /// Returns Backstop's credentials: those with the minimum privileges of `docs/grants.md`.
    pub fn credentials(&self) -> Credentials {
        accounts::credentials(&self.password)
    }

    /// Returns the accounts' password, to search for in written files.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Returns the folder of the whole shard; a test may put more into it.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Waits until every replica holds what the primary holds now.
    pub async fn settle(&self) {
        let held = self.primary().gtid_executed().await;
        for replica in &self.members[1..] {
            replica.wait_for(&held).await;
        }
    }

    /// Makes a member a read-only replica of another with auto-position.
    pub async fn follow(&self, replica: &TestMember, source: &TestMember) {
        backstop_testbed::shard::follow(replica, source, &self.password).await.expect("a replica");
    }

    async fn start_member(&self, number: usize, layout: &ShardLayout) -> TestMember {
        let dir = self.base.join(format!("m{number}"));
        datadir_template::copy(&layout.made_with, &dir.join("data")).await;
        let made_with = layout.made_with.iter().map(|option| option.trim_start_matches("--").to_owned());
        let redo = format!("innodb_log_group_home_dir = {}", self.base.join("redo").display());
        let redo = layout.redo_volume.then_some(redo);
        let options: Vec<_> = layout.options.iter().cloned().chain(made_with).chain(redo).collect();
        let servers = LocalMysqld::new(&self.program, Arc::new(QuietReporter));
        TestMember::start_with(&servers, &dir, 100 + u32::try_from(number).unwrap_or_default(), &options)
            .await
    }

    async fn create_accounts(&self, layout: &ShardLayout) {
        let mut blocks = layout.grants.clone();
        if layout.members > 1 && !blocks.contains(&"replication") {
            blocks.push("replication");
        }
        let statements: Vec<_> =
            blocks.iter().flat_map(|block| accounts::statements(block, &self.password)).collect();
        let statements: Vec<_> = statements.iter().map(String::as_str).collect();
        self.primary().run(&statements).await;
    }
}

impl Drop for TestShard {
    fn drop(&mut self) {
        self.members.clear();
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// Returns a folder named after this process, so that a later test finds the remains of a killed
/// one. The path is short because sockets are in it.
fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("bst-{}-{:08x}", std::process::id(), accounts::unique_number() as u32))
}

/// Kills and removes the shards of killed tests.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        let pid = (parts.next() == Some("bst")).then(|| parts.next().and_then(|pid| pid.parse::<u32>().ok()));
        let Some(Some(pid)) = pid else { continue };
        if process_start_ticks(pid).is_some() {
            continue;
        }
        for member in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            kill_server_on(&member.path().join("data"));
        }
        let _ = std::fs::remove_dir_all(entry.path());
    }
}
