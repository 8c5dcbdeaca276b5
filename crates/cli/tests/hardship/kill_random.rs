//! SIGKILL at random moments of backups, recoveries and prunes, one after the other on the same shard.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use backstop_testkit::{Layout, Shard, tables};
use rustix::process::Signal;

use crate::dice::{Dice, kills};
use crate::harm::{nothing_left, unharmed};
use crate::program::Backstop;
use crate::rebuilt::Rebuilt;

const BACKUP: &str = "backup orders";
const PRUNE: &str = "prune orders --apply --set shards.orders.retention.daily=1";
/// After so many kills a whole backup must succeed, and leave nothing.
const WHOLE: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn at_random_moments() {
    let shard = Shard::start(Layout { members: 2, ..Layout::default() }).await;
    tables::fill(shard.primary(), 2, 2_000).await;
    shard.settle().await;
    let backstop = Backstop::of(&shard, "clone").await;
    let begin = Instant::now();
    backstop.json(BACKUP).await;
    let mut round = Round { shard: &shard, backstop: &backstop, dice: Dice::new(), usual: begin.elapsed() };
    for number in 1..=kills() {
        round.kill_something(number).await;
        if number % WHOLE == 0 {
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
    shard: &'a Shard,
    backstop: &'a Backstop,
    dice: Dice,
    /// How long a whole backup takes here.
    usual: Duration,
}

impl Round<'_> {
    async fn kill_something(&mut self, number: usize) {
        match self.dice.roll() % 10 {
            0 => self.kill(number, PRUNE, self.usual / 10).await,
            1..=3 => self.kill_recovery(number).await,
            _ => self.kill(number, BACKUP, self.usual).await,
        };
        unharmed(self.shard).await;
        assert!(!self.backstop.backups().await.is_empty(), "kill {number}: a backup is lost");
    }

    /// Kills a recovery up to twice, then lets it go on to its end.
    async fn kill_recovery(&mut self, number: usize) {
        let rebuilt = Rebuilt::into(self.shard.base().join("rebuilt"));
        let line = format!("recover orders --to latest --join --into {}", rebuilt.dir.display());
        for _ in 0..2 {
            self.kill(number, &line, self.usual).await;
            unharmed(self.shard).await;
        }
        self.backstop.json(&line).await;
        rebuilt.equals(self.shard).await;
    }

    /// Kills a command after some time, unless it has ended well before.
    async fn kill(&mut self, number: usize, line: &str, below: Duration) {
        let after = self.dice.time(below + below / 10);
        let running = self.backstop.spawn(line, None);
        tokio::time::sleep(after).await;
        running.signal(Signal::KILL);
        let ran = running.end().await;
        let killed = ran.status.signal() == Some(Signal::KILL.as_raw());
        eprintln!("kill {number}: `{line}` after {after:?}: {}", if killed { "killed" } else { "had ended" });
        assert!(killed || ran.status.success(), "kill {number}: {ran}");
    }
}
