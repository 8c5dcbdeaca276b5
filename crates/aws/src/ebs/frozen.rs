//! Compares the tags of snapshots, and the values read from them, with `tests/frozen`: their bytes
//! must not change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use backstop_testkit::frozen::{frozen, lines, parsed, published};
use backstop_types::gtid::GtidSet;

use super::ec2::{EbsSnapshot, EbsSnapshotState};
use super::{HOST_TAG, catalog, tags};

const RUN: &str = "20261123T022133Z-9f3a04c1";

fn label(gtids: &GtidSet) -> BTreeMap<String, String> {
    tags::SnapshotTags {
        run: &RUN.parse().unwrap(),
        shard: &"orders".parse().unwrap(),
        cluster: "orders-cluster",
        gtids,
        source: &"db2:3306".parse().unwrap(),
        server: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        version: "8.0.36",
        set: 1,
        repository: "s3://backups/shards",
        secret: None,
        extra: &BTreeMap::new(),
    }
    .tags()
}

#[test]
fn tags_of_a_snapshot_stay_the_same() {
    let short: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap();
    let numbers: Vec<String> = (1..200).map(|number| (2 * number).to_string()).collect();
    let long: GtidSet =
        format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{}", numbers.join(":")).parse().unwrap();
    published("tags.json", &[label(&short), label(&long)]);
    frozen("words-of-tags.txt", &format!("{}\n{}\n{HOST_TAG}\n", tags::UNPROVEN, tags::PROVEN));
}

#[test]
fn backups_are_read_from_frozen_tags() {
    let states = backstop_testkit::every!(EbsSnapshotState: EbsSnapshotState::Pending, EbsSnapshotState::Completed, EbsSnapshotState::Error, EbsSnapshotState::Archived, EbsSnapshotState::Recycled);
    let mut backups = Vec::new();
    for line in lines("tags.json") {
        for state in &states {
            let snapshot = EbsSnapshot {
                id: "snap-1".into(),
                volume: "vol-1".into(),
                state: *state,
                gibibytes: 8,
                begun: Some("2026-11-23T02:21:33Z".parse().unwrap()),
                tags: parsed(&line),
            };
            backups
                .push(catalog::tagged(RUN.parse().unwrap(), &[snapshot], "eu-west-1").expect("a whole set"));
        }
    }
    published("backups-from-tags.json", &backups);
}
