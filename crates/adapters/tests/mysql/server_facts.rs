//! Facts of real servers, read with only the documented grants.

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::recorded_settings::recorded_settings;
use backstop_adapters::mysql::server_facts::{data_paths, enabled_events, is_plugin_active, server_facts};
use backstop_policy::freeze_mode::lock_free_obstacles;
use backstop_testkit::{ShardLayout, TestShard};

#[tokio::test(flavor = "multi_thread")]
async fn unusual_server_is_described() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().canonicalize().unwrap();
    let layout = ShardLayout {
        grants: vec!["base"],
        made_with: vec!["--innodb-page-size=8k"],
        ..ShardLayout::single()
    }
    .option("sync_binlog = 0")
    .option("innodb_flush_log_at_trx_commit = 2")
    .option(&format!("log_bin = {}/bin", folder.display()))
    .option(&format!("innodb_directories = {}", folder.display()));
    let shard = TestShard::start(layout).await;
    let create_outside =
        format!("CREATE TABLE shop.far (id INT PRIMARY KEY) DATA DIRECTORY = '{}'", folder.display());
    shard
        .primary()
        .run(&[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.plain (id INT PRIMARY KEY)",
            "CREATE TABLE shop.old (id INT PRIMARY KEY) ENGINE = MyISAM",
            &create_outside,
            "CREATE EVENT shop.hourly ON SCHEDULE EVERY 1 HOUR DO DO 1",
            "CREATE EVENT shop.never ON SCHEDULE EVERY 1 HOUR DISABLE DO DO 1",
            "SET PERSIST max_connections = 77",
            "SET GLOBAL long_query_time = 3",
        ])
        .await;

    let mut session =
        Connector::new(&shard.credentials()).connect(&shard.primary().endpoint()).await.unwrap();
    let places = data_paths(&mut session).await.unwrap();
    assert_eq!(places[0].path, shard.primary().datadir());
    let elsewhere: Vec<_> = places[1..].iter().map(|place| (place.what, place.path.clone())).collect();
    assert_eq!(elsewhere, [("binary log", folder.join("bin")), ("tablespace", folder.join("shop/far.ibd"))]);

    let datadir = shard.primary().datadir().to_owned();
    let facts = server_facts(&mut session, |path| path.starts_with(&datadir)).await.unwrap();
    assert_eq!(facts.other_tables, ["shop.old (MyISAM)"]);
    assert_eq!((facts.log_bin, facts.sync_binlog, facts.flush_log_at_trx_commit), (true, 0, 2));
    assert_eq!(facts.outside.len(), 2);
    assert_eq!(lock_free_obstacles(&facts).len(), 4, "{:?}", lock_free_obstacles(&facts));

    assert_eq!(enabled_events(&mut session).await.unwrap(), ["shop.hourly"]);
    assert!(is_plugin_active(&mut session, "clone").await.unwrap());
    assert!(!is_plugin_active(&mut session, "no_such_plugin").await.unwrap());

    let settings = recorded_settings(&mut session).await.unwrap();
    let expected = [
        ("innodb_page_size", "8192"),
        ("max_connections", "77"),
        ("long_query_time", "3.000000"),
        ("sync_binlog", "0"),
        ("log_bin", "ON"),
        ("lower_case_table_names", "0"),
    ];
    for (name, value) in expected {
        assert_eq!(settings.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!settings.contains_key("net_retry_count"), "no one set it");
}
