//! Text from a server cannot control the terminal that shows it.

use backstop_testkit::{ShardLayout, TestShard};

use crate::support::program::Backstop;

#[tokio::test(flavor = "multi_thread")]
async fn table_text_cannot_control_the_terminal() {
    let shard = TestShard::start(ShardLayout { members: 1, ..ShardLayout::default() }).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let evil = "CREATE TABLE one.evil (a INT) COMMENT '\x1b]0;owned\x07\u{202e}txt'";
    shard.primary().run(&["CREATE DATABASE one", evil]).await;
    backstop.json("archive orders --until-caught-up --set shards.orders.archive.from=primary").await;

    let found = backstop.run("find orders --kind ddl").await;
    assert_eq!(found.status.code(), Some(0), "{found}");
    assert!(found.out.contains(r"\u{1b}]0;owned\u{7}\u{202e}txt"), "{found}");
    let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!found.out.contains(acts), "{:?}", found.out);

    let report = backstop.json("find orders --kind ddl").await;
    assert!(report.to_string().contains("\u{202e}txt"), "its meaning is kept: {report}");
}
