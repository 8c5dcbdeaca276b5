//! A writer that remembers every commit the server acknowledged, and how long clients had to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backstop_adapters::mysql::connect::Connection;
use tokio::task::JoinHandle;

use crate::member::Member;

/// Name of the table it writes.
const TABLE: &str = "ledger.entries";

/// Writes rows, one transaction each, until it is stopped.
pub struct Ledger {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writer: JoinHandle<Written>,
}

/// What was acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Every acknowledged row: id and value.
    pub rows: Vec<(u64, u64)>,
    /// The longest time between two acknowledgements.
    pub longest_gap: Duration,
    /// Every time between two acknowledgements, in order.
    pub gaps: Vec<Duration>,
}

impl Ledger {
    /// Creates the table if there is none and begins to write, after what is there.
    pub async fn start(primary: &Member) -> Self {
        primary
            .run(&[
                "CREATE DATABASE IF NOT EXISTS ledger",
                "CREATE TABLE IF NOT EXISTS ledger.entries (id BIGINT UNSIGNED PRIMARY KEY, value BIGINT UNSIGNED NOT NULL, \
                 padding VARBINARY(200) NOT NULL DEFAULT '')",
            ])
            .await;
        let mut session = primary.root().await;
        let first: u64 =
            session.one("SELECT COALESCE(MAX(id), 0) + 1 FROM ledger.entries").await.expect("the ledger");
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let writer = tokio::spawn(write(session, first, stop.clone(), committed.clone()));
        Self { stop, committed, writer }
    }

    /// How many rows were acknowledged so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::SeqCst)
    }

    /// Waits until `more` further rows are acknowledged.
    pub async fn wait_for_more(&self, more: u64) {
        let until = self.committed() + more;
        let begin = Instant::now();
        while self.committed() < until {
            assert!(begin.elapsed() < Duration::from_secs(60), "the ledger does not get on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops writing, and gives what was acknowledged.
    pub async fn stop(self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        self.writer.await.expect("the ledger's writer")
    }
}

impl Written {
    /// The acknowledged rows that a server lacks or holds with another value.
    pub async fn missing_on(&self, member: &Member) -> Vec<u64> {
        let mut session = member.root().await;
        let sql = format!("SELECT id, value FROM {TABLE}");
        let held: Vec<(u64, u64)> =
            session.query_within(&sql, Duration::from_secs(120)).await.expect("read the ledger");
        let held: std::collections::HashMap<_, _> = held.into_iter().collect();
        self.rows.iter().filter(|(id, value)| held.get(id) != Some(value)).map(|(id, _)| *id).collect()
    }
}

/// Commits row after row; ends when told to, or when the server is gone.
async fn write(
    mut session: Connection,
    first: u64,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
) -> Written {
    let mut written = Written::default();
    let mut last = Instant::now();
    for id in first.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let value = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
        let sql = format!("INSERT INTO {TABLE} VALUES ({id}, {value}, REPEAT('x', {}))", id % 200);
        if session.run_within(&sql, Duration::from_secs(60)).await.is_err() {
            break;
        }
        written.rows.push((id, value));
        written.gaps.push(last.elapsed());
        last = Instant::now();
        committed.fetch_add(1, Ordering::SeqCst);
    }
    written.longest_gap = written.gaps.iter().copied().max().unwrap_or_default();
    written
}
