//! The grants in `docs/grants.md` suffice for each command's statements, and without them the
//! server refuses the statements.

use backstop_adapters::mysql::connection::{Connection, Connector, Login};
use backstop_testkit::{ShardLayout, TestShard};

/// Returns each block of the page with the statements that it must allow. The block `base` alone
/// allows none of them.
fn blocks(clone_to: &str) -> Vec<(&'static str, Vec<String>)> {
    let own = |statements: &[&str]| statements.iter().map(|sql| (*sql).to_owned()).collect::<Vec<_>>();
    vec![
        ("clone", vec![format!("CLONE LOCAL DATA DIRECTORY = '{clone_to}'")]),
        (
            "lock-free",
            own(&[
                "LOCK INSTANCE FOR BACKUP",
                "SELECT LOCAL FROM performance_schema.log_status",
                "FLUSH LOCAL ENGINE LOGS",
                "FLUSH LOCAL BINARY LOGS",
                "UNLOCK INSTANCE",
            ]),
        ),
        (
            "lock",
            own(&[
                "FLUSH LOCAL TABLES WITH READ LOCK",
                "FLUSH LOCAL BINARY LOGS",
                "FLUSH LOCAL ENGINE LOGS",
                "UNLOCK TABLES",
            ]),
        ),
        (
            "fix",
            own(&[
                "SET PERSIST sync_binlog = 1",
                "SET PERSIST_ONLY innodb_read_io_threads = 5",
                "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'",
            ]),
        ),
    ]
}

async fn session(shard: &TestShard) -> Connection {
    Connector::new(&shard.credentials()).connect(&shard.primary().endpoint()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_block_of_grants_is_needed_and_sufficient() {
    let folder = tempfile::tempdir().unwrap();
    let clone_to = folder.path().join("clone").display().to_string();
    for (block, statements) in blocks(&clone_to) {
        let shard = TestShard::start(ShardLayout { grants: vec!["base"], ..ShardLayout::single() }).await;
        let refused = session(&shard).await.run(&statements[0]).await.unwrap_err();
        assert!(refused.is_denied(), "{block}: {refused}");
        let grants = backstop_testkit::accounts::statements(block, "");
        let grants: Vec<_> = grants.iter().map(String::as_str).collect();
        shard.primary().run(&grants).await;
        let mut session = session(&shard).await;
        for sql in &statements {
            session.run(sql).await.unwrap_or_else(|error| panic!("{block}: {sql}: {error}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blockers_can_be_seen_and_killed() {
    let shard =
        TestShard::start(ShardLayout { grants: vec!["base", "kill-blockers"], ..ShardLayout::single() })
            .await;
    shard.primary().run(&["CREATE USER app@'%' IDENTIFIED BY 'app'"]).await;
    let app = Login { user: "app".into(), password: "app".into() };
    let blocker = Connector::with_login(app, None).connect(&shard.primary().endpoint()).await.unwrap();
    let id = blocker.id().unwrap();
    let mut session = session(&shard).await;
    let sql = format!("SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE PROCESSLIST_ID = {id}");
    assert_eq!(session.first::<u32>(&sql).await.unwrap(), Some(id));
    session.run(&format!("KILL QUERY {id}")).await.unwrap();
}
