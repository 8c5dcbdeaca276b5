//! Writer that records every commit that a server acknowledged, and the time of the
//! acknowledgement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_adapters::mysql::connection::Connection;
use backstop_engine::ports::Clock;
use backstop_host::SystemClock;
use backstop_types::error::{Error, Result, ResultExt};
use tokio::task::JoinHandle;

use crate::member::LocalServer;

/// Time limit of a commit. A slower one is abandoned and not acknowledged.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Server errors after which a transaction is repeated: deadlock, lock wait timeout.
const RETRYABLE_ERRORS: [u16; 2] = [1213, 1205];

/// Delay of a client of the shop between transactions: the load is steady, and replicas can keep
/// up.
const THINK_TIME: Duration = Duration::from_millis(20);

/// Number of initial rows in the tables of a shop.
const ACCOUNT_ROWS: u64 = 20_000;
const HISTORY_ROWS: u64 = 60_000;

/// Statements of each transaction, in addition to the insert into `ledger.entries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// None. One writer; the ids have no gaps.
    Entries,
    /// Work of a shop in schema `shop`: books an order, and moves an amount between two accounts.
    /// Four writers.
    Shop,
}

/// Commits transactions until it is stopped or dropped.
pub struct Workload {
    shared: Arc<WorkloadState>,
    writers: Vec<JoinHandle<()>>,
}

struct WorkloadState {
    clock: SystemClock,
    load: Load,
    stop: AtomicBool,
    next: AtomicU64,
    acknowledged: Mutex<Acknowledged>,
}

#[derive(Default)]
struct Acknowledged {
    rows: Vec<(u64, u64)>,
    at: Vec<Duration>,
    /// Reason why a writer ended early.
    ended: Option<String>,
}

/// Acknowledged rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrittenRows {
    /// Every acknowledged row of `ledger.entries`, sorted by id: id and value.
    pub rows: Vec<(u64, u64)>,
    /// Longest time between two acknowledgements.
    pub longest_gap: Duration,
    /// Every time between two acknowledgements, in order.
    pub gaps: Vec<Duration>,
}

impl Workload {
    /// Creates the missing tables and begins to write after the existing rows.
    ///
    /// # Errors
    /// Returns an error if the tables cannot be created.
    pub async fn start(primary: &LocalServer, load: Load) -> Result<Self> {
        primary.run(&LEDGER_TABLE).await?;
        if load == Load::Shop {
            primary.run(&shop()).await?;
        }
        let next = "SELECT COALESCE(MAX(id), 0) + 1 FROM ledger.entries";
        let next: u64 = primary.root().await?.one(next).await?;
        let shared = Arc::new(WorkloadState {
            clock: SystemClock::new(),
            load,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(next),
            acknowledged: Mutex::default(),
        });
        let mut writers = Vec::new();
        for _ in 0..if load == Load::Shop { 4 } else { 1 } {
            writers.push(tokio::spawn(shared.clone().write(primary.root().await?)));
        }
        Ok(Self { shared, writers })
    }

    /// Returns the number of acknowledged commits so far.
    pub fn committed(&self) -> u64 {
        self.shared.look(|all| all.rows.len() as u64)
    }

    /// Returns the time on the ledger's clock, for [`Workload::longest_gap`].
    pub fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// Returns the longest time without an acknowledgement that overlaps the span between two times
    /// on the ledger's clock.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        self.shared.look(|all| {
            let before = all.at.iter().rev().find(|at| **at < from).copied().unwrap_or(from);
            let within = all.at.iter().copied().filter(|at| *at >= from && *at <= to);
            let after = all.at.iter().find(|at| **at > to).copied().unwrap_or(to);
            let moments: Vec<Duration> = std::iter::once(before).chain(within).chain([after]).collect();
            moments.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
        })
    }

    /// Waits until `more` further commits are acknowledged.
    ///
    /// # Errors
    /// Returns an error if they are not acknowledged within a minute.
    pub async fn wait_for_more(&self, more: u64) -> Result<()> {
        let (until, begun) = (self.committed() + more, self.now());
        while self.committed() < until {
            let ended = self.shared.look(|all| all.ended.clone());
            if self.now() - begun > COMMIT_TIMEOUT || ended.is_some() {
                let why = ended.unwrap_or_else(|| format!("timed out after {COMMIT_TIMEOUT:?}"));
                return Err(Error::failed(format!("cannot wait for {more} more commits: {why}")));
            }
            self.shared.clock.sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops writing, and returns the acknowledged rows.
    ///
    /// # Errors
    /// Returns an error if a writer does not end.
    pub async fn stop(mut self) -> Result<WrittenRows> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for writer in self.writers.drain(..) {
            writer.await.failed("cannot stop the ledger's writer")?;
        }
        Ok(self.shared.look(Acknowledged::written))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.writers.iter().for_each(JoinHandle::abort);
    }
}

impl Acknowledged {
    fn written(&mut self) -> WrittenRows {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        let starts = std::iter::once(Duration::ZERO).chain(self.at.iter().copied());
        let gaps: Vec<Duration> =
            self.at.iter().zip(starts).map(|(at, last)| at.saturating_sub(last)).collect();
        WrittenRows { rows, longest_gap: gaps.iter().copied().max().unwrap_or_default(), gaps }
    }
}

impl WrittenRows {
    /// Returns the acknowledged rows that a server lacks or holds with another value.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub async fn missing_on(&self, session: &mut Connection) -> Result<Vec<u64>> {
        let held: Vec<(u64, u64)> =
            session.query_within("SELECT id, value FROM ledger.entries", READ_TIMEOUT).await?;
        let held: HashMap<u64, u64> = held.into_iter().collect();
        Ok(self.rows.iter().filter(|(id, value)| held.get(id) != Some(value)).map(|(id, _)| *id).collect())
    }
}

impl WorkloadState {
    /// Commits one transaction after another; ends when it is stopped, or when the server is gone.
    async fn write(self: Arc<Self>, mut session: Connection) {
        while !self.stop.load(Ordering::SeqCst) {
            let id = self.next.fetch_add(1, Ordering::SeqCst);
            let value = expected_value(id);
            match session.run_within(&transaction(self.load, id, value), COMMIT_TIMEOUT).await {
                Ok(()) => self.acknowledge(id, value),
                Err(error) if error.code().is_some_and(|code| RETRYABLE_ERRORS.contains(&code)) => {
                    // The server rolled it back, or does so now; its id is not used again.
                    let _ = session.run("ROLLBACK").await;
                }
                Err(error) => {
                    self.look(|all| all.ended = Some(error.to_string()));
                    return;
                }
            }
            if self.load == Load::Shop {
                self.clock.sleep(THINK_TIME).await;
            }
        }
    }

    fn acknowledge(&self, id: u64, value: u64) {
        let at = self.clock.monotonic();
        self.look(|all| {
            all.rows.push((id, value));
            all.at.push(at);
        });
    }

    fn look<T>(&self, see: impl FnOnce(&mut Acknowledged) -> T) -> T {
        // A writer that panicked did not leave a half-pushed row.
        see(&mut self.acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Returns the value that belongs to an id, so that a row with a wrong value is detected.
fn expected_value(id: u64) -> u64 {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

fn transaction(load: Load, id: u64, value: u64) -> String {
    let entry = format!("INSERT INTO ledger.entries VALUES ({id}, {value}, REPEAT('x', {}))", id % 200);
    if load == Load::Entries {
        return entry;
    }
    let (a, b) = (value % ACCOUNT_ROWS + 1, (value >> 20) % ACCOUNT_ROWS + 1);
    let (low, high) = (a.min(b), a.max(b)); // in one order, so that writers seldom wait for each other in a circle
    let amount = value % 90 + 10;
    format!(
        "START TRANSACTION; \
         UPDATE shop.accounts SET balance = balance - {amount} WHERE id = {low}; \
         UPDATE shop.accounts SET balance = balance + {amount} WHERE id = {high}; \
         INSERT INTO shop.transfers VALUES ({id}, {low}, {high}, {amount}); \
         INSERT INTO shop.orders (account, amount, note) VALUES ({a}, {amount}, CONCAT('order ', {id})); \
         {entry}; COMMIT"
    )
}

const LEDGER_TABLE: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS ledger",
    "CREATE TABLE IF NOT EXISTS ledger.entries (id BIGINT UNSIGNED PRIMARY KEY, value BIGINT UNSIGNED NOT NULL, \
     padding VARBINARY(200) NOT NULL DEFAULT '')",
];

/// Returns the statements that create a shop with some history.
fn shop() -> Vec<String> {
    let numbers = |rows: u64| {
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT")
    };
    vec![
        "CREATE DATABASE shop".to_owned(),
        "CREATE TABLE shop.accounts (id BIGINT UNSIGNED PRIMARY KEY, owner VARCHAR(100) NOT NULL, balance BIGINT NOT NULL)".to_owned(),
        "CREATE TABLE shop.transfers (id BIGINT UNSIGNED PRIMARY KEY, source BIGINT UNSIGNED NOT NULL, \
         target BIGINT UNSIGNED NOT NULL, amount BIGINT NOT NULL)".to_owned(),
        "CREATE TABLE shop.orders (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, account BIGINT UNSIGNED NOT NULL, \
         amount BIGINT NOT NULL, note VARCHAR(200) NOT NULL, KEY (account))".to_owned(),
        "SET SESSION cte_max_recursion_depth = 1000000".to_owned(),
        format!(
            "INSERT INTO shop.accounts {} i, CONCAT('owner ', i), 1000 FROM n",
            numbers(ACCOUNT_ROWS)
        ),
        format!(
            "INSERT INTO shop.orders (account, amount, note) {} i MOD {ACCOUNT_ROWS} + 1, i MOD 500, \
             CONCAT(SHA2(i, 256), SHA2(-i, 256)) FROM n",
            numbers(HISTORY_ROWS)
        ),
    ]
}

/// Sum of all accounts of a shop, which no transfer changes.
pub const TOTAL_BALANCE: u64 = ACCOUNT_ROWS * 1000;
