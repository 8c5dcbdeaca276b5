//! The settings of a rebuilt server, compared with its donor's one by one.

use std::collections::{BTreeMap, BTreeSet};

use backstop_adapters::mysql::connect::Connection;
use backstop_testkit::{Layout, Shard, tables};

use crate::program::Backstop;
use crate::rebuilt::Rebuilt;

/// Names in which a copy differs from its donor: identity, places, what the recovery decides.
const OWN: [&str; 18] = [
    "datadir",
    "event_scheduler",
    "general_log_file",
    "log_bin_basename",
    "log_bin_index",
    "log_error",
    "pid_file",
    "port",
    "relay_log_basename",
    "relay_log_index",
    "report_host",
    "server_id",
    "server_uuid",
    "skip_replica_start",
    "skip_slave_start",
    "slow_query_log_file",
    "socket",
    "sql_safe_updates",
];

/// Settings off their defaults, of every kind, with signs that an option file has a meaning for.
const SET: [&str; 22] = [
    "SET PERSIST time_zone = '+02:00'",
    "SET PERSIST sql_mode = 'ANSI_QUOTES,NO_ZERO_DATE,PIPES_AS_CONCAT'",
    "SET PERSIST character_set_server = latin1",
    "SET PERSIST collation_server = latin1_german2_ci",
    "SET PERSIST max_connections = 77",
    "SET PERSIST long_query_time = 3.5",
    "SET PERSIST sort_buffer_size = 1048576",
    "SET PERSIST transaction_isolation = 'READ-COMMITTED'",
    "SET PERSIST optimizer_switch = 'mrr=off,batched_key_access=on'",
    "SET PERSIST log_output = 'TABLE,FILE'",
    "SET PERSIST local_infile = ON",
    "SET PERSIST innodb_lock_wait_timeout = 7",
    "SET PERSIST innodb_print_all_deadlocks = ON",
    "SET PERSIST lc_time_names = 'de_DE'",
    "SET PERSIST ft_boolean_syntax = '+ -><()~*:\"\"&!'",
    "SET PERSIST mandatory_roles = '`a#b;\\'c`@`%`'",
    "SET PERSIST group_concat_max_len = 4096",
    "SET PERSIST block_encryption_mode = 'aes-256-cbc'",
    "SET PERSIST binlog_expire_logs_seconds = 86400",
    "SET PERSIST default_week_format = 3",
    "SET GLOBAL sql_safe_updates = ON",
    // Whatever follows the line break must not become an option.
    "SET GLOBAL init_connect = 'SET @a = \"x # y\\\\z\";\\nmax_connections = 5\\n#'",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_settings_of_its_donor() {
    let shard = Shard::start(Layout { members: 2, ..Layout::default() }).await;
    tables::fill(shard.primary(), 1, 100).await;
    shard.settle().await;
    shard.candidate().run(&SET).await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    let donor = all(&mut shard.candidate().root().await).await;
    let rebuilt = Rebuilt::into(shard.base().join("copy"));
    let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
    let report = backstop.json(&line).await;
    let copy = all(&mut rebuilt.root().await).await;
    let names: BTreeSet<&str> = donor.keys().chain(copy.keys()).map(String::as_str).collect();
    let differ = |name: &&str| donor.get(*name) != copy.get(*name);
    let found: Vec<_> = names.into_iter().filter(differ).filter(|name| !OWN.contains(name)).collect();
    let shown: Vec<_> = found.iter().map(|name| (name, donor.get(*name), copy.get(*name))).collect();
    assert!(found.is_empty(), "{shown:?}");
    let findings = report["checks"].as_array().unwrap();
    let told = findings.iter().find(|finding| finding["code"] == "settings-not-carried").unwrap();
    assert!(told["what"].as_str().unwrap().contains("`SET PERSIST sql_safe_updates = ON`"), "{told}");
}

/// The settings of a server, without what is a state.
async fn all(root: &mut Connection) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = root.query("SHOW GLOBAL VARIABLES").await.unwrap();
    rows.into_iter().filter(|(name, _)| !name.starts_with("gtid_")).collect()
}
