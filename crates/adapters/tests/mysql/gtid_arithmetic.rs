//! Compares the model's GTID arithmetic with the server's.

use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::gtid::{GtidSet, Sid};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const ROUNDS: usize = 400;

/// Generates sets that often touch, overlap and differ only in their tags.
fn sets() -> impl Strategy<Value = GtidSet> {
    let tags = prop_oneof![3 => Just(""), 1 => Just("blue"), 1 => Just("_9"), 1 => Just("red_1")];
    let interval = (0u128..3, tags, 1u64..40, 0u64..12);
    prop::collection::vec(interval, 0..10).prop_map(|intervals| {
        let mut set = GtidSet::new();
        for (uuid, tag, start, length) in intervals {
            let sid = Sid { uuid: uuid::Uuid::from_u128(uuid + 1), tag: tag.into() };
            set.insert_interval(sid, start, start + length);
        }
        set
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn gtid_arithmetic_agrees_with_the_server() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let mut session = shard.primary().root().await;
    let mut runner = TestRunner::default();
    for _ in 0..ROUNDS {
        let (a, b) = (sets(), sets()).new_tree(&mut runner).unwrap().current();
        // The notation of the server, and one that a person might write.
        let written = format!(" {} ,\n", a.to_string().to_uppercase().replace(':', " : "));
        let sql = format!(
            "SELECT GTID_SUBTRACT('{a}', '{b}'), GTID_SUBTRACT('{written}', ''), GTID_SUBSET('{a}', '{b}')"
        );
        let (rest, same, subset): (String, String, u8) = session.one(&sql).await.unwrap();
        assert_eq!(rest.parse::<GtidSet>().unwrap(), a.subtract(&b), "{a} minus {b}");
        assert_eq!(rest.replace('\n', "").to_lowercase(), a.subtract(&b).to_string(), "{a} minus {b}");
        assert_eq!(written.parse::<GtidSet>().unwrap(), a, "{written}");
        assert_eq!(same.parse::<GtidSet>().unwrap(), a, "{written}");
        assert_eq!(subset != 0, a.is_subset_of(&b), "{a} in {b}");
    }
}
