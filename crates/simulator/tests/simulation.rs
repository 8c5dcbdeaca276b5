//! Simulated histories of a shard and its archive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::atomic::{AtomicU64, Ordering};
use backstop_simulator::schedule::Schedule;
use backstop_simulator::world::run;

#[test]
fn archive_keeps_every_acknowledged_commit() {
    let from: u64 = std::env::var("BACKSTOP_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("COUNT").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let begun = std::time::Instant::now();
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + count { return; }
        let outcome = run(&Schedule::draw(seed), std::env::var("TRACE").is_ok());
        for line in &outcome.lines { println!("{line}"); }
        println!("seed {seed}: {} acked {:?}", outcome.acknowledged, outcome.failures);
    }); } });
    println!("{:?}", begun.elapsed());
}
