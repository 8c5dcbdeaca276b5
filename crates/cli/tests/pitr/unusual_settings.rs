//! A shard whose applications set global defaults for sessions, and whose accounts must have long
//! passwords: Backstop's sessions must not be affected.

use backstop_testkit::{ShardLayout, TestMember, TestShard, tables};
use rustix::process::Signal;

use crate::random_history::archived;
use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, uuid};

/// Global settings that sessions begin with. For each of them some application exists that runs
/// with it.
const SETTINGS: &[(&str, &str)] = &[
    ("sql_mode", "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT,IGNORE_SPACE'"),
    ("autocommit", "0"),
    ("completion_type", "'RELEASE'"),
    ("transaction_isolation", "'SERIALIZABLE'"),
    ("time_zone", "'-11:00'"),
    ("lc_messages", "'ja_JP'"),
    ("character_set_client", "'latin1'"),
    ("character_set_results", "'utf16'"),
    ("character_set_connection", "'utf16'"),
    ("sql_select_limit", "0"),
    ("max_join_size", "1"),
    ("sql_big_selects", "0"),
    ("sql_safe_updates", "1"),
    ("sql_auto_is_null", "1"),
    ("sql_quote_show_create", "0"),
    ("sql_require_primary_key", "1"),
    ("sql_generate_invisible_primary_key", "1"),
    ("foreign_key_checks", "0"),
    ("group_concat_max_len", "4"),
    ("max_execution_time", "1"),
    ("lock_wait_timeout", "1"),
    ("transaction_read_only", "1"),
    ("wait_timeout", "1"),
    ("net_read_timeout", "1"),
    ("net_write_timeout", "1"),
    ("init_connect", "'SET SESSION autocommit = 0, sql_select_limit = 1, transaction_read_only = 1'"),
];

/// Password policy, set before the account is created whose password it would refuse.
const POLICY: &[&str] = &[
    "INSTALL COMPONENT 'file://component_validate_password'",
    "SET PERSIST validate_password.policy = STRONG",
    "SET PERSIST validate_password.length = 40",
    "SET PERSIST validate_password.special_char_count = 3",
    "SET PERSIST password_history = 5",
    "SET PERSIST default_password_lifetime = 1",
    "SET PERSIST password_require_current = ON",
];

async fn unfriendly(member: &TestMember) {
    let statements: Vec<String> =
        SETTINGS.iter().map(|(name, value)| format!("SET GLOBAL {name} = {value}")).collect();
    member.run(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_ignore_the_global_settings_of_applications() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    let primary = shard.primary();
    tables::fill(primary, 1, 500).await;
    primary.run(POLICY).await;
    shard.settle().await;
    // Components are not replicated.
    let open = ["SET GLOBAL super_read_only = OFF", "SET sql_log_bin = 0"];
    shard.candidate().run(&[&open[..], POLICY, &["SET GLOBAL super_read_only = ON"]].concat()).await;
    unfriendly(primary).await;
    unfriendly(shard.candidate()).await;

    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("check orders").await;
    let backup = backstop.json("backup orders").await;
    assert_eq!(backup["source"]["role"], "candidate", "{backup}");
    let archiver = backstop.spawn(ARCHIVE, None);
    let write = "SET SESSION TRANSACTION READ WRITE";
    primary
        .run(&[write, "CREATE TABLE shop.later (id INT PRIMARY KEY)", "INSERT INTO shop.later VALUES (1)"])
        .await;
    let all = primary.gtid_executed().await;
    archived(&backstop, &all).await;
    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    let found = backstop.json("find orders --table shop.later --kind ddl").await;
    assert!(found.to_string().contains(&uuid(primary).await.to_string()), "{found}");

    shard.candidate().wait_for(&all).await;
    for ending in ["--standalone --copy-login", "--join"] {
        let copy = RecoveredServer::at(shard.base().join("r"));
        let report = copy.recover(&backstop, &format!("--to latest {ending}")).await;
        assert_eq!(copy.held().await, all, "{report}");
        assert_eq!(copy.value("SELECT COUNT(*) FROM shop.later").await, "1");
        let left = "SELECT COUNT(*) FROM mysql.user WHERE User = 'backstop_recovery'";
        assert_eq!(copy.value(left).await, "0");
        assert_eq!(
            copy.value("SELECT @@GLOBAL.validate_password.length").await,
            "40",
            "the policy is its own"
        );
    }
}
