//! Compares the variables of a real server with the rules for a recovered server's settings.

use backstop_policy::carried_settings::rule_of;
use backstop_testkit::{ShardLayout, TestShard};

/// Plugins and components of MySQL's packages that have variables; loaded where they exist.
const INSTALL_STATEMENTS: [&str; 9] = [
    "INSTALL PLUGIN rewriter SONAME 'rewriter.so'",
    "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
    "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'",
    "INSTALL PLUGIN group_replication SONAME 'group_replication.so'",
    "INSTALL PLUGIN validate_password SONAME 'validate_password.so'",
    "INSTALL COMPONENT 'file://component_validate_password'",
    "INSTALL COMPONENT 'file://component_connection_control'",
    "INSTALL COMPONENT 'file://component_telemetry'",
    "INSTALL COMPONENT 'file://component_log_filter_dragnet'",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_variable_of_the_server_has_a_rule() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let mut root = shard.primary().root().await;
    for sql in INSTALL_STATEMENTS {
        let _ = root.run(sql).await;
    }
    let rows: Vec<(String, String)> = root.query("SHOW GLOBAL VARIABLES").await.unwrap();
    assert!(rows.len() > 600, "{}", rows.len());
    let unknown: Vec<_> = rows.iter().map(|(name, _)| name).filter(|name| rule_of(name).is_none()).collect();
    assert!(unknown.is_empty(), "crates/policy/src/carried_settings/variable_rules.rs lacks {unknown:?}");
}
