//! Simulated histories of a shard and its archive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use backstop_simulator::schedule::Schedule;
use backstop_simulator::world::run;

#[test]
fn archive_keeps_every_acknowledged_commit() {
    let from: u64 = std::env::var("BACKSTOP_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("COUNT").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let begun = std::time::Instant::now();
    for seed in from..from + count {
        let outcome = run(&Schedule::draw(seed), std::env::var("TRACE").is_ok());
        for line in &outcome.lines {
            println!("{line}");
        }
        println!("seed {seed}: {} acked {:?}", outcome.acknowledged, outcome.failures);
    }
    println!("{:?}", begun.elapsed());
}
