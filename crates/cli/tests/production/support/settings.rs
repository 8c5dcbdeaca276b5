//! The settings of two servers, compared one by one.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::servers::Server;

/// `SHOW GLOBAL VARIABLES` of a server.
pub type Settings = BTreeMap<String, String>;

/// Variables that are a server's identity, its host's address, or a path on it: no two servers have
/// the same.
const HOST_SETTINGS: [&str; 17] = [
    "bind_address",
    "datadir",
    "general_log_file",
    "log_bin_basename",
    "log_bin_index",
    "log_error",
    "pid_file",
    "relay_log_basename",
    "relay_log_index",
    "report_host",
    "server_id",
    "server_uuid",
    "slow_query_log_file",
    "socket",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
];

/// Variables in which a rebuilt replica also differs from the server that it replaces: paths that
/// are within the data directory now, and settings that are off until the shard's administrators
/// set them.
pub const OF_A_NEW_HOST: [&str; 6] = [
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "relay_log",
    "replica_load_tmpdir",
    "slave_load_tmpdir",
    "tmpdir",
];

/// Variables in which a new primary also differs from a primary that was itself rebuilt.
pub const OF_A_NEW_PRIMARY: [&str; 1] = ["rpl_semi_sync_source_enabled"];

/// Returns all settings of a server, without variables that are a state.
pub async fn of(server: &Server) -> Settings {
    let rows: Vec<(String, String)> = server.root().await.query("SHOW GLOBAL VARIABLES").await.unwrap();
    rows.into_iter().filter(|(name, _)| !name.starts_with("gtid_")).collect()
}

/// Checks that two servers differ in exactly the variables in which all servers differ, and in
/// these.
pub fn assert_equal(donor: &Settings, copy: &Settings, but: &[&str]) {
    let names: BTreeSet<&str> = donor.keys().chain(copy.keys()).map(String::as_str).collect();
    let differ = |name: &&str| donor.get(*name) != copy.get(*name);
    let found: BTreeSet<&str> = names.into_iter().filter(differ).collect();
    let wanted: BTreeSet<&str> = HOST_SETTINGS.iter().chain(but).copied().collect();
    assert_eq!(found, wanted);
}
