//! How long a plan's look at an archive takes, with a cold cache and a store that answers late:
//! `cargo run --release -p backstop-repo --example plan [SEGMENTS] [MILLISECONDS]`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use backstop_binlog::Segment;
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::plan::{Known, Quest, Toward};
use backstop_model::target::Target;
use backstop_repo::Repository;
use chrono::DateTime;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

const SERVER: &str = "aaaaaaaa-0000-4000-8000-000000000000";

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let count: u64 = args.next().map_or(10_000, |text| text.parse().unwrap());
    let wait = Duration::from_millis(args.next().map_or(50, |text| text.parse().unwrap()));
    let shard: ShardName = "orders".parse().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    fill(&store, &shard, count).await;

    // A page of a list holds a thousand names; every list is charged as many pages as the longest one has.
    let config = ThrottleConfig {
        wait_get_per_call: wait,
        wait_list_per_call: wait * u32::try_from(count.div_ceil(1000)).unwrap(),
        ..ThrottleConfig::default()
    };
    let late = Arc::new(ThrottledStore::new(store, config));
    let target = Target::Time(DateTime::from_timestamp(1_795_000_000 + (count * 10) as i64 - 25, 0).unwrap());
    let taken_at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    let backup = Known { backup_id: BackupId::new(taken_at, 1), taken_at, gtid_executed: GtidSet::new() };
    let begun = Instant::now();
    let repository = Repository::on(late, None).await.unwrap();
    let opened = begun.elapsed();
    let archive = repository.archive(&shard).checked().await.unwrap();
    let read = begun.elapsed();
    let quest = Quest {
        shard: &shard,
        archive: &archive,
        backups: &[backup],
        target: &target,
        line: None,
        backup: None,
    };
    assert!(matches!(quest.decide().unwrap(), Toward::Needs(_)));
    let decided = begun.elapsed();
    println!(
        "{} segments, {wait:?} latency: opened after {opened:.2?}, archive read after {read:.2?}, decided after {decided:.2?}",
        archive.segments.len()
    );
}

/// Segments of ten transactions each, and a tail of a hundred pieces.
async fn fill(store: &Arc<dyn ObjectStore>, shard: &ShardName, count: u64) {
    let repository = Repository::on(store.clone(), None).await.unwrap();
    let writer = repository.claim_archive(shard).await.unwrap();
    let file = std::env::temp_dir().join(format!("backstop-plan-{}", std::process::id()));
    for number in 0..count {
        std::fs::write(&file, number.to_le_bytes()).unwrap();
        writer.seal(&segment(number, 10), &file).await.unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    for number in count..count + 100 {
        writer.put_tail(&segment(number, 10), &number.to_le_bytes()).await.unwrap();
    }
    writer.release().await.unwrap();
}

fn segment(number: u64, each: u64) -> Segment {
    let at = |n: u64| DateTime::from_timestamp(1_795_000_000 + n as i64, 0).unwrap();
    let set = |from: u64, to: u64| -> GtidSet {
        if to < from { GtidSet::new() } else { format!("{SERVER}:{from}-{to}").parse().unwrap() }
    };
    let first = number * each + 1;
    Segment {
        source: SERVER.parse().unwrap(),
        file: "binlog.000001".into(),
        start: number * 8,
        end: number * 8 + 8,
        previous: set(1, first - 1),
        gtids: set(first, first + each - 1),
        committed: Some((at(first), at(first + each - 1))),
        hash: *blake3::hash(&number.to_le_bytes()).as_bytes(),
    }
}
