//! A segment that the store lost, or that is damaged there: the index lists it, so the archiver
//! does not request it from the source as if it were new.

use backstop_testkit::TestShard;
use backstop_types::archive::{Archive, ArchivedSegment, SegmentState};

use crate::byte_identical::single;
use crate::support::program::Backstop;
use crate::support::stored_archive::{ARCHIVE, assert_identical, contents};

fn places(archive: &Archive) -> Vec<(u64, String, u64, u64)> {
    let place = |piece: &ArchivedSegment| (piece.number, piece.file.clone(), piece.start, piece.end);
    archive.segments.iter().map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn archiver_fetches_lost_segments_again() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    primary.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    for id in 1..=4 {
        primary.run(&[&format!("INSERT INTO one.t VALUES ({id})")]).await;
        backstop.json(&caught_up).await;
    }
    let before = contents(&backstop).await;
    let sealed: Vec<&ArchivedSegment> =
        before.segments.iter().filter(|piece| piece.state == SegmentState::Sealed).collect();
    assert!(sealed.len() >= 3, "{:?}", places(&before));
    // One segment is missing, and one has a wrong byte, which only a read of its content detects.
    std::fs::remove_file(backstop.repository.join(&sealed[1].object)).unwrap();
    let flipped = backstop.repository.join(&sealed[2].object);
    let mut bytes = std::fs::read(&flipped).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&flipped, bytes).unwrap();
    let verified = backstop.run("--json verify orders --content").await;
    assert_eq!(verified.status.code(), Some(22), "{verified}");
    let report: serde_json::Value = serde_json::from_str(&verified.out).unwrap();
    assert_eq!(report["shards"][0]["damaged"].as_array().unwrap().len(), 2, "{verified}");

    let ran = backstop.run(&caught_up).await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(places(&contents(&backstop).await), places(&before));
    let verified = backstop.run("--json verify orders --content").await;
    assert_eq!(verified.status.code(), Some(0), "{verified}");
    assert_identical(&backstop, primary).await;
}
