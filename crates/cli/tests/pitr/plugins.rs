//! Plugins that an option file loads, and accounts that depend on them: on hosts that have the
//! libraries, and on one that lacks them.

use std::collections::BTreeMap;

use backstop_testkit::server_wrapper::without_plugins;
use backstop_testkit::{ShardLayout, TestShard};
use serde_json::Value;

use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::ARCHIVE;

const ACTIVE: &str = "SELECT GROUP_CONCAT(PLUGIN_NAME ORDER BY PLUGIN_NAME) FROM information_schema.PLUGINS \
                      WHERE PLUGIN_STATUS = 'ACTIVE' AND PLUGIN_LIBRARY IN ('auth_socket.so', 'mysql_no_login.so', 'validate_password.so')";

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_loaded_where_their_libraries_exist() {
    let layout = ["auth_socket", "validate_password"]
        .iter()
        .fold(ShardLayout::single(), |layout, name| layout.option(&format!("plugin_load_add = {name}.so")));
    let shard = TestShard::start(layout.option("validate_password_policy = LOW")).await;
    let backstop = Backstop::of(&shard, "clone").await;
    shard
        .primary()
        .run(&[
            "CREATE USER debian@localhost IDENTIFIED WITH auth_socket",
            "INSTALL PLUGIN mysql_no_login SONAME 'mysql_no_login.so'",
            "CREATE USER view_owner@localhost IDENTIFIED WITH mysql_no_login",
            "INSTALL COMPONENT 'file://component_query_attributes'",
        ])
        .await;
    backstop.json("backup orders").await;
    shard.primary().run(&["CREATE DATABASE shop"]).await;
    let upto = shard.primary().gtid_executed().await;
    shard.primary().run(&["CREATE USER second@localhost IDENTIFIED WITH auth_socket"]).await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;

    let here = RecoveredServer::at(shard.base().join("here"));
    let report = here.recover(&backstop, "--to latest --standalone").await;
    assert_eq!(findings(&report), BTreeMap::new(), "{report}");
    assert_eq!(here.value(ACTIVE).await, "auth_socket,mysql_no_login,validate_password");
    assert_eq!(here.value("SELECT @@validate_password_policy").await, "LOW");
    drop(here);

    let lacking = shard.base().join("lacking");
    std::fs::create_dir_all(&lacking).unwrap();
    let libraries =
        ["auth_socket.so", "mysql_no_login.so", "validate_password.so", "component_query_attributes.so"];
    let program = without_plugins(&lacking, &libraries).await;
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    let (own, other) = (shard.program.display().to_string(), program.display().to_string());
    std::fs::write(&backstop.config, text.replace(&own, &other)).unwrap();
    let there = RecoveredServer::at(shard.base().join("there"));
    let last = upto.to_string().replace(":1-", ":");
    let report = there.recover(&backstop, &format!("--to after:{last} --standalone")).await;
    let findings = findings(&report);
    let told = |code: &str, words: &[&str]| {
        let what = &findings[code];
        assert!(words.iter().all(|word| what.contains(word)), "{what}");
    };
    told("plugin-missing", &["auth_socket (auth_socket.so)", "mysql_no_login", "validate_password"]);
    told("component-missing", &["component_query_attributes"]);
    told(
        "accounts-cannot-log-in",
        &["debian@localhost (auth_socket)", "view_owner@localhost (mysql_no_login)"],
    );
    assert_eq!(there.value("SHOW DATABASES LIKE 'shop'").await, "shop");
}

/// Returns the findings of a recovery about plugins, by code.
fn findings(report: &Value) -> BTreeMap<String, String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let all = checks.map(|finding| (text(finding, "code"), text(finding, "what")));
    all.filter(|(code, _)| ["missing", "log-in"].iter().any(|end| code.ends_with(end))).collect()
}
