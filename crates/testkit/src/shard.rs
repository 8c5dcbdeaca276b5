//! A shard of real servers: a primary, a candidate primary and a replica.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_model::credentials::Credentials;
use backstop_model::ids::Endpoint;

use crate::accounts;
use crate::datadir_template;
use crate::member::{TestMember, kill_server_on};
use crate::server_program::{QuietReporter, server_program};
use crate::server_slots::ServerSlots;

/// How a test's shard is made.
#[derive(Debug, Clone)]
pub struct ShardLayout {
    /// How many members: 1 to 4. The first is the primary, the second the candidate primary.
    pub members: usize,
    /// Lines for every member's option file.
    pub options: Vec<String>,
    /// Options that a data directory must be made with, for example `--innodb-page-size=8k`; also put into the
    /// option files.
    pub made_with: Vec<&'static str>,
    /// Folder to put the members' folders (`m1`, `m2`, …, each with `data`) into; `None`: a temporary one. A `data`
    /// folder that exists (a subvolume, a mount) is used.
    pub base: Option<PathBuf>,
    /// The server program, `None`: the tests' own.
    pub program: Option<PathBuf>,
    /// The blocks of `docs/grants.md` that Backstop's account is made from.
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
            grants: accounts::ALL_BACKUPS.to_vec(),
        }
    }
}

impl ShardLayout {
    /// One server that replicates nothing.
    pub fn single() -> Self {
        Self { members: 1, ..Self::default() }
    }

    /// The same with one more line in every option file.
    #[must_use]
    pub fn option(mut self, line: &str) -> Self {
        self.options.push(line.to_owned());
        self
    }
}

/// A shard. Everything is killed and removed when it is dropped, also by a panic. One test may hold one.
pub struct TestShard {
    /// The members; empty places never occur. Dropped before the folder they live in.
    pub members: Vec<TestMember>,
    /// The program that they run.
    pub program: PathBuf,
    password: String,
    base: PathBuf,
    _slots: ServerSlots,
}

impl TestShard {
    /// A primary, a candidate and a replica, or what the layout says, in replication with GTID auto-position.
    pub async fn start(layout: ShardLayout) -> Self {
        let slots = ServerSlots::take(layout.members + 1).await;
        sweep();
        let base = layout.base.clone().unwrap_or_else(temporary);
        std::fs::create_dir_all(&base).expect("create the shard's folder");
        let program = match &layout.program {
            Some(program) => program.clone(),
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

    /// The member that takes writes.
    pub fn primary(&self) -> &TestMember {
        &self.members[0]
    }

    /// The candidate primary.
    pub fn candidate(&self) -> &TestMember {
        &self.members[1]
    }

    /// The first of the other replicas.
    pub fn replica(&self) -> &TestMember {
        &self.members[2]
    }

    /// Where the members listen.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.members.iter().map(|member| member.endpoint()).collect()
    }

    /// How Backstop logs in: the least that `docs/grants.md` gives it.
    pub fn credentials(&self) -> Credentials {
        accounts::credentials(&self.password)
    }

    /// The accounts' password, to grep for in what was written.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Folder of the whole shard; a test may put more into it.
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

    /// Makes a member follow another with auto-position, and read only.
    pub async fn follow(&self, replica: &TestMember, source: &TestMember) {
        backstop_testbed::shard::follow(replica, source, &self.password).await.expect("a replica");
    }

    async fn start_member(&self, number: usize, layout: &ShardLayout) -> TestMember {
        let dir = self.base.join(format!("m{number}"));
        datadir_template::copy(&layout.made_with, &dir.join("data")).await;
        let made_with = layout.made_with.iter().map(|option| option.trim_start_matches("--").to_owned());
        let options: Vec<_> = layout.options.iter().cloned().chain(made_with).collect();
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

/// A folder named after this process, so that a later test finds what a killed one left. Short: sockets are in it.
fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("bst-{}-{:08x}", std::process::id(), accounts::unique_number() as u32))
}

/// Kills and removes the shards of tests that were killed themselves.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        let pid = (parts.next() == Some("bst")).then(|| parts.next().and_then(|pid| pid.parse::<u32>().ok()));
        let Some(Some(pid)) = pid else { continue };
        if Path::new(&format!("/proc/{pid}")).exists() {
            continue;
        }
        for member in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            kill_server_on(&member.path().join("data"));
        }
        let _ = std::fs::remove_dir_all(entry.path());
    }
}
