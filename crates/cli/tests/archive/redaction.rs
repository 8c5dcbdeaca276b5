//! A search of the archive shows statements without secrets, on screen and as JSON.

use backstop_testkit::{ShardLayout, TestShard};

use crate::support::program::Backstop;
use crate::support::stored_archive::ARCHIVE;

#[tokio::test(flavor = "multi_thread")]
async fn find_shows_no_passwords_and_no_hashes() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    primary
        .run(&[
            "CREATE USER a1 IDENTIFIED BY 'hunter2hunter2'",
            "CREATE USER a2 IDENTIFIED BY 'it''s \\\\ hunter2', a3 IDENTIFIED BY \"hunter2\" COMMENT 'shown'",
            "ALTER USER a1 IDENTIFIED /* now */ BY 'hunter2more' RETAIN CURRENT PASSWORD",
            "SET PASSWORD FOR a2 = 'hunter2set'",
            "SET SESSION print_identified_with_as_hex = ON",
            "CREATE USER a4 IDENTIFIED BY 'hunter2hex'",
            "CREATE USER a5 IDENTIFIED WITH 'sha256_password' BY 'hunter2sha'",
            "CREATE USER a6 IDENTIFIED WITH caching_sha2_password AS '$A$005$012345678901234567890123456789012345678901234567890123456hunter'",
            "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (USER 'u', HOST 'h', PASSWORD 'hunter2server')",
            "CREATE DATABASE one",
            "CREATE PROCEDURE one.p() BEGIN ALTER USER a1 IDENTIFIED BY 'hunter2body'; END",
            "GRANT SELECT ON one.* TO a1",
        ])
        .await;
    primary
        .run(&[
            "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
            "CREATE USER a7 IDENTIFIED BY 'hunter2\\', a8 IDENTIFIED BY 'hunter2'",
        ])
        .await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    // The digest at the end of each stored hash consists of plain letters. The salt before it may
    // have any bytes, also line breaks.
    let digests = primary
        .value(
            "SELECT GROUP_CONCAT(RIGHT(authentication_string, 43) SEPARATOR ' ') FROM mysql.user \
             WHERE user LIKE 'a_'",
        )
        .await;
    let digests: Vec<&str> = digests.split(' ').collect();
    assert!(digests.len() == 8 && digests.iter().all(|digest| digest.len() == 43), "{digests:?}");
    for line in ["find orders", "--json find orders"] {
        let ran = backstop.run(line).await;
        assert!(ran.status.success() && ran.out.contains("CREATE USER"), "{ran}");
        // The screen output only has the beginning of a long statement.
        for word in ["'a1'", "'a4'", "'a5'", "'a6'", "'a7'", "<secret>"] {
            assert!(ran.out.contains(word), "{word} is not shown: {ran}");
        }
        for word in ["'a8'", "COMMENT 'shown'"] {
            assert!(!line.contains("json") || ran.out.contains(word), "{word} is not shown: {ran}");
        }
        for secret in digests.iter().copied().chain(["hunter", "$A$005$", "$5$", "0x2441"]) {
            assert!(!ran.out.contains(secret), "{secret} is shown: {ran}");
        }
    }
}
