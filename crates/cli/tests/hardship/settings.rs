//! The settings of a rebuilt server, compared with its donor's one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use backstop_adapters::mysql::connection::Connection;
use backstop_testkit::{ShardLayout, TestShard, tables};

use crate::support::certificates::Certificates;
use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;

/// Variables in which a copy differs from its donor: identity, paths, values that the recovery
/// decides.
const HOST_SETTINGS: [&str; 24] = [
    // These follow from character_set_server when a server with persisted settings starts.
    "collation_connection",
    "collation_database",
    "datadir",
    "event_scheduler",
    "general_log_file",
    "init_file",
    "innodb_buffer_pool_load_at_startup",
    "log_bin_basename",
    "log_bin_index",
    "log_error",
    "pid_file",
    "port",
    "relay_log",
    "relay_log_basename",
    "relay_log_index",
    "report_host",
    "report_port",
    "server_id",
    "server_uuid",
    "skip_replica_start",
    "skip_slave_start",
    "slow_query_log_file",
    "socket",
    "sql_safe_updates",
];

/// Settings with non-default values, of every kind, with characters that have a meaning in an
/// option file.
const PERSISTED: [&str; 20] = [
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
];

/// Settings that last until a restart.
const CHANGED: [&str; 4] = [
    "SET GLOBAL super_read_only = ON",
    "START REPLICA",
    "SET GLOBAL sql_safe_updates = ON",
    // Text after the line break must not become an option.
    "SET GLOBAL init_connect = 'SET @a = 7 /* \"x # y\\\\z\" */,\\nsort_buffer_size = 300000\\n#'",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_settings_of_its_donor() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    tables::fill(shard.primary(), 1, 100).await;
    shard.settle().await;
    let candidate = shard.candidate();
    candidate.run(&PERSISTED).await;
    candidate.stop().await;
    candidate.start().await;
    candidate.run(&CHANGED).await;
    shard.settle().await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    let donor = all(&mut shard.candidate().root().await).await;
    let rebuilt = RecoveredServer::into(shard.base().join("copy"));
    let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
    let report = backstop.json(&line).await;
    let copy = all(&mut rebuilt.root().await).await;
    let names: BTreeSet<&str> = donor.keys().chain(copy.keys()).map(String::as_str).collect();
    let differ = |name: &&str| donor.get(*name) != copy.get(*name);
    let found: Vec<_> =
        names.into_iter().filter(differ).filter(|name| !HOST_SETTINGS.contains(name)).collect();
    let shown: Vec<_> = found.iter().map(|name| (name, donor.get(*name), copy.get(*name))).collect();
    assert!(found.is_empty(), "{shown:?}");
    let told = told(&report, "settings-not-carried").unwrap();
    assert!(told["what"].as_str().unwrap().contains("`SET PERSIST sql_safe_updates = ON`"), "{told}");
}

/// Returns the settings of a server, without variables that are a state.
async fn all(root: &mut Connection) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = root.query("SHOW GLOBAL VARIABLES").await.unwrap();
    // The clone plugin is loaded where backups are taken.
    let is_setting = |name: &str| !name.starts_with("gtid_") && !name.starts_with("clone_");
    rows.into_iter().filter(|(name, _)| is_setting(name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_options_that_its_operator_gives() {
    let shard = TestShard::start(ShardLayout::single().option("report_host = db7.example")).await;
    tables::fill(shard.primary(), 1, 100).await;
    let certificates = Certificates::of(&shard.base().join("tls"), &["localhost", "other"], "root");
    let path = |path: PathBuf| path.display().to_string();
    let [ca, cert, key] =
        [certificates.ca(), certificates.certificate("localhost"), certificates.key("localhost")].map(path);
    shard
        .primary()
        .run(&[
            &format!("SET PERSIST ssl_ca = '{ca}'"),
            &format!("SET PERSIST ssl_cert = '{cert}'"),
            &format!("SET PERSIST ssl_key = '{key}'"),
            "SET PERSIST require_secure_transport = ON",
            "SET PERSIST max_connections = 77",
            "SET PERSIST sql_mode = 'ANSI'",
        ])
        .await;
    let backstop = Backstop::of(&shard, "clone").await;
    let quiet = backstop.run("-q backup orders").await;
    let notes = quiet.err.lines().all(|line| line.starts_with("note:") || line.starts_with("WARNING:"));
    assert!(quiet.status.success() && notes && quiet.out.contains("taken at"), "{quiet}");
    without_certificates(&shard, &backstop).await;
    what_cannot_be_given_is_refused(&shard, &backstop).await;

    let other = path(certificates.key("other"));
    configure_tls(&backstop, &format!("ca = '{ca}'\ncert = '{cert}'\nkey = '{other}'\n"));
    let rebuilt = RecoveredServer::into(shard.base().join("given"));
    let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
    backstop.run(&line).await.failed(2, &[&other, "not the key of certificate"]);
    assert_eq!(checked_tls(&backstop).await, ["recovery-tls-unusable"]);
    assert!(!rebuilt.dir.exists());
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    std::fs::write(&backstop.config, text.replace(&other, &key)).unwrap();
    assert_eq!(checked_tls(&backstop).await, [""; 0]);
    let file = backstop.dir.join("mine.cnf");
    let own = "[client]\nport = 3306\n[mysqld]\nmax-connections = 88\nsort_buffer_size = 2M # more\ninit_connect = 'SET @a = 1'\n";
    std::fs::write(&file, own).unwrap();
    let options = format!(
        "--defaults-file {} --server-option max_connections=99 --server-option report_host=copy.example",
        file.display()
    );
    let report = backstop.json(&format!("{line} {options}")).await;
    assert!(
        told(&report, "tls-not-carried").is_none() && told(&report, "report-host-not-set").is_none(),
        "{report}"
    );
    for (sql, wanted) in [
        ("SELECT @@GLOBAL.require_secure_transport", "1"),
        ("SELECT @@GLOBAL.max_connections", "99"),
        ("SELECT @@GLOBAL.sort_buffer_size", "2097152"),
        ("SELECT @@GLOBAL.init_connect", "SET @a = 1"),
        ("SELECT @@GLOBAL.report_host", "copy.example"),
        ("SELECT @@GLOBAL.sql_mode LIKE '%ANSI%'", "1"),
    ] {
        assert_eq!(rebuilt.value(sql).await, wanted, "{sql}");
    }
    let served = PathBuf::from(rebuilt.value("SELECT @@GLOBAL.ssl_key").await);
    assert!(served.starts_with(rebuilt.dir.canonicalize().unwrap()), "{}", served.display());
    assert_eq!(std::fs::read(&served).unwrap(), std::fs::read(&key).unwrap());
    assert_eq!(std::fs::metadata(&served).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Returns the findings of `check` about the certificate of a recovered server.
async fn checked_tls(backstop: &Backstop) -> Vec<String> {
    let report = backstop.json("check orders").await;
    let findings = report["shards"][0]["findings"].as_array().unwrap();
    let codes = findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned());
    codes.filter(|code| code.starts_with("recovery-tls")).collect()
}

/// Checks that missing certificates are reported, and that the server does not require TLS that no
/// client can verify.
async fn without_certificates(shard: &TestShard, backstop: &Backstop) {
    let rebuilt = RecoveredServer::into(shard.base().join("without"));
    let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
    assert_eq!(checked_tls(backstop).await, ["recovery-tls-missing"]);
    let plan = backstop.json(&format!("{line} --plan")).await;
    let findings = plan["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["code"] == "tls-not-carried"), "{plan}");
    let report = backstop.json(&line).await;
    let tls = told(&report, "tls-not-carried").unwrap();
    assert!(tls["severity"] == "problem" && tls["what"].as_str().unwrap().contains("ssl_cert"), "{tls}");
    assert!(told(&report, "report-host-not-set").is_some(), "{report}");
    assert_eq!(rebuilt.value("SELECT @@GLOBAL.require_secure_transport").await, "0");
    assert_eq!(rebuilt.value("SELECT @@GLOBAL.max_connections").await, "77");
}

/// Checks that each unusable setting is named, before anything is changed.
async fn what_cannot_be_given_is_refused(shard: &TestShard, backstop: &Backstop) {
    let into = shard.base().join("refused");
    let file = backstop.dir.join("lost.cnf");
    let lost = "[mysqld]\ndatadir = /data/mysql\ntmpdir = /no/such/folder\nport = 3306\ninnodb_undo_directory = /undo\n!includedir /etc/mysql\n";
    std::fs::write(&file, lost).unwrap();
    let file = format!("--defaults-file {}", file.display());
    let loose = backstop.dir.join("loose.cnf");
    std::fs::write(&loose, "max_connections = 9\n").unwrap();
    let loose = format!("--defaults-file {}", loose.display());
    for (options, words) in [
        (
            file.as_str(),
            &["line 2: `datadir`", "line 4: `port`: use `--port`", "`innodb_undo_directory`", "!includedir"]
                [..],
        ),
        ("--server-option tmpdir=/no/such/folder", &["`tmpdir`: /no/such/folder does not exist"]),
        ("--server-option max_connectons=3", &["unknown variable 'max_connectons=3'"]),
        ("--server-option max_connections=few", &["'max_connections'", "few"]),
        ("--server-option server_id=7", &["`server_id`"]),
        ("--defaults-file /no/such/file", &["/no/such/file"]),
        (&loose, &["line 1: `max_connections = 9` is in no group"]),
    ] {
        for plan in ["", "--plan"] {
            let line =
                format!("recover orders --to latest --standalone --into {} {options} {plan}", into.display());
            backstop.run(&line).await.failed(2, words);
            assert!(!into.exists(), "{options}");
        }
    }
}

fn configure_tls(backstop: &Backstop, lines: &str) {
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    std::fs::write(&backstop.config, format!("{text}\n[recovery.tls]\n{lines}")).unwrap();
}

/// Returns a finding of a report.
fn told<'a>(report: &'a serde_json::Value, code: &str) -> Option<&'a serde_json::Value> {
    report["checks"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}
