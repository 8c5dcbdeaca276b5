//! SIGKILL at random moments of backups, recoveries and prunes, one after the other on the same
//! shard.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use backstop_testkit::{ShardLayout, TestShard, tables};
use rustix::process::Signal;

use crate::support::program::Backstop;
use crate::support::random::{Random, kills};
use crate::support::recovered_server::RecoveredServer;
use crate::support::source_unharmed::{nothing_left, unharmed};

const BACKUP: &str = "backup orders";
const PRUNE: &str = "prune orders --apply --yes-really --set shards.orders.retention.daily=1";
/// Number of kills after which a whole backup must succeed, and leave nothing.
const KILLS_BETWEEN_BACKUPS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn commands_survive_kills_at_random_moments() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    tables::fill(shard.primary(), 2, 2_000).await;
    shard.settle().await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("init").await;
    let begin = Instant::now();
    backstop.json(BACKUP).await;
    let mut round =
        Round { shard: &shard, backstop: &backstop, dice: Random::new(), usual: begin.elapsed(), killed: 0 };
    while round.killed < kills() {
        let whole = round.killed / KILLS_BETWEEN_BACKUPS;
        round.kill_something().await;
        if round.killed / KILLS_BETWEEN_BACKUPS > whole {
            backstop.json(BACKUP).await;
            nothing_left(&shard, &backstop).await;
        }
    }
    backstop.json(PRUNE).await;
    let verified = backstop.json("verify orders --content").await;
    assert_eq!(verified["ok"], true, "{verified}");
    assert_eq!(backstop.backups().await.len(), 1);
}

struct Round<'a> {
    shard: &'a TestShard,
    backstop: &'a Backstop,
    dice: Random,
    /// Time that a backup takes here; a recovery takes about as long, a prune much less.
    usual: Duration,
    /// Number of kills. Commands that ended before their moment came are not counted.
    killed: usize,
}

impl Round<'_> {
    async fn kill_something(&mut self) {
        match self.dice.roll() % 10 {
            0 => self.kill(PRUNE, self.usual / 20).await,
            1..=3 => self.kill_recovery().await,
            _ => self.kill(BACKUP, self.usual).await,
        }
        assert!(!self.backstop.backups().await.is_empty(), "a backup is lost");
    }

    /// Kills a recovery up to twice, then lets it continue to its end.
    async fn kill_recovery(&mut self) {
        let rebuilt = RecoveredServer::into(self.shard.base().join("rebuilt"));
        let line = format!("recover orders --to latest --join --into {}", rebuilt.dir.display());
        for _ in 0..2 {
            self.kill(&line, self.usual).await;
        }
        self.backstop.json(&line).await;
        rebuilt.equals(self.shard).await;
    }

    /// Kills a command at a moment before `usual`, unless it has ended, and checks for harm.
    async fn kill(&mut self, line: &str, usual: Duration) {
        let after = self.dice.time(usual);
        let ran = self.backstop.spawn(line, None).end_or_kill(after).await;
        let killed = ran.status.signal() == Some(Signal::KILL.as_raw());
        assert!(killed || ran.status.success(), "{ran}");
        self.killed += usize::from(killed);
        eprintln!(
            "kill {}: `{line}` after {after:?}: {}",
            self.killed,
            if killed { "killed" } else { "had ended" }
        );
        unharmed(self.shard).await;
    }
}
