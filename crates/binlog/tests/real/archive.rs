//! The stream of a server cut into segments.

use backstop_binlog::{AtEnd, Cutter, Folder, Session, Step};
use backstop_model::credentials::{Tls, TlsMode};
use backstop_testkit::{Layout, Ledger, Shard};

use crate::support::*;

#[tokio::test]
async fn every_kind_of_transaction_byte_for_byte() {
    for checksum in ["CRC32", "NONE"] {
        let layout = Layout::single()
            .option(&format!("binlog_checksum = {checksum}"))
            .option("max_allowed_packet = 256M");
        let shard = Shard::start(layout).await;
        let primary = shard.primary();
        primary.run(&ALL_KINDS).await;
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Folder::new(dir.path());
        all_of(&shard, primary, &mut sink).await;
        let of = uuid(primary).await;
        let names = assert_identical(&sink, of, primary);
        assert!(names.len() >= 2, "{names:?}");
        assert_eq!(assert_described(&sink, of), primary.gtid_executed().await);
        for (name, bytes) in files(&sink, of) {
            let path = dir.path().join(&name);
            std::fs::write(&path, bytes).unwrap();
            let checked = std::process::Command::new(mysqlbinlog().await)
                .args(["--verify-binlog-checksum", "--hexdump"])
                .arg(&path)
                .output()
                .unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
            assert!(!checked.stdout.is_empty());
        }
    }
}

#[tokio::test]
async fn breaks_under_load_leave_no_trace() {
    let shard = Shard::start(Layout::single()).await;
    let primary = shard.primary();
    let ledger = Ledger::start(primary).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Folder::new(dir.path());
    let of = uuid(primary).await;
    let mut cutter = Cutter::new(of, Default::default());
    // The connection ends again and again, and the archiver is started anew in between.
    for round in 0..8 {
        let (mut left, held) = (7 + round * 5, cutter.held().clone());
        let stop = |step: &Step| {
            left -= i32::from(matches!(step, Step::Transaction { .. }));
            left == 0
        };
        read(&connect(&shard, primary), &dump(&held, AtEnd::Wait), &mut cutter, &mut sink, stop)
            .await
            .unwrap();
        match round {
            2 | 5 => primary.run(&["FLUSH BINARY LOGS"]).await,
            3 | 6 => {
                cutter.cut(&mut sink).await.unwrap();
                cutter = Cutter::after(last(&sink));
            }
            _ => {}
        }
    }
    // The source is killed in mid-file while it is read.
    let held = cutter.held().clone();
    let (mut stream, _acknowledger) = Session::open(&connect(&shard, primary))
        .await
        .unwrap()
        .dump(&dump(&held, AtEnd::Wait))
        .await
        .unwrap();
    ledger.wait_for_more(5).await;
    primary.kill();
    while cutter.step(&mut stream, &mut sink, SECOND).await.is_ok() {}
    ledger.stop().await;
    primary.start().await;
    primary.run(&["CREATE DATABASE after_the_crash"]).await;
    let held = cutter.held().clone();
    read(&connect(&shard, primary), &dump(&held, AtEnd::Stop), &mut cutter, &mut sink, |_| false)
        .await
        .unwrap();
    cutter.cut(&mut sink).await.unwrap();
    assert_identical(&sink, of, primary);
    assert_eq!(assert_described(&sink, of), primary.gtid_executed().await);
}

#[tokio::test]
async fn silence_purged_logs_holes_and_logins() {
    let shard = Shard::start(Layout::single()).await;
    let primary = shard.primary();
    primary.run(&["CREATE DATABASE one", "CREATE DATABASE two"]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Folder::new(dir.path());
    let connect = connect(&shard, primary);

    // Nothing happens: heartbeats come, at the source's end.
    let mut cutter = all_of(&shard, primary, &mut sink).await;
    let held = cutter.held().clone();
    let beat = |step: &Step| matches!(step, Step::Heartbeat { .. });
    let step = read(&connect, &dump(&held, AtEnd::Wait), &mut cutter, &mut sink, beat).await.unwrap();
    let (file, offset) = cutter.position().unwrap();
    assert_eq!(step, Step::Heartbeat { file: file.to_owned(), offset });

    // A stopped source is silent, which is another thing.
    let held = cutter.held().clone();
    let (mut stream, _acknowledger) =
        Session::open(&connect).await.unwrap().dump(&dump(&held, AtEnd::Wait)).await.unwrap();
    let pid = rustix::process::Pid::from_raw(primary.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let fault = loop {
        if let Err(fault) = cutter.step(&mut stream, &mut sink, SECOND).await {
            break fault;
        }
    };
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(fault.message.contains("dead"), "{fault}");

    // A set that begins in mid-file leaves a hole, which is seen and can be filled.
    let of = uuid(primary).await;
    let first = "SELECT CONCAT(@@server_uuid, ':1-2')";
    let archived = primary.value(first).await.parse().unwrap();
    let mut cutter = Cutter::new(of, archived);
    let held = cutter.held().clone();
    let hole = |step: &Step| matches!(step, Step::Hole { .. });
    let step = read(&connect, &dump(&held, AtEnd::Stop), &mut cutter, &mut sink, hole).await.unwrap();
    let Step::Hole { previous } = step else { panic!("{step:?}") };
    assert!(previous.is_empty(), "{previous}");

    // What was purged cannot be had.
    primary.run(&["FLUSH BINARY LOGS"]).await;
    let file = primary.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    primary.run(&[&format!("PURGE BINARY LOGS TO '{file}'")]).await;
    let mut cutter = Cutter::new(of, Default::default());
    let none = Default::default();
    let step = read(&connect, &dump(&none, AtEnd::Stop), &mut cutter, &mut sink, |_| false).await.unwrap();
    let Step::Refused(fault) = step else { panic!("{step:?}") };
    assert!(fault.message.contains("1236") && fault.hint.is_some(), "{fault}");

    logins(&shard).await;
}

/// Every way to log in; the server has forgotten the password's hash where it says so.
async fn logins(shard: &Shard) {
    let primary = shard.primary();
    let ca = Some(primary.datadir().join("ca.pem"));
    for (mode, ca, forget, encrypted) in [
        (TlsMode::Off, None, true, Ok(false)),
        (TlsMode::Off, None, false, Ok(false)),
        (TlsMode::Preferred, None, true, Ok(true)),
        (TlsMode::Required, None, false, Ok(true)),
        (TlsMode::VerifyCa, ca.clone(), true, Ok(true)),
        (TlsMode::VerifyCa, None, false, Err("TLS")),
        (TlsMode::VerifyIdentity, ca, false, Err("TLS")),
    ] {
        if forget {
            primary.run(&["FLUSH PRIVILEGES"]).await;
        }
        let mut connect = connect(shard, primary);
        connect.tls = Tls { mode, ca };
        let opened = Session::open(&connect).await;
        match (encrypted, opened) {
            (Ok(expected), Ok(mut session)) => {
                assert_eq!(session.is_encrypted(), expected, "{mode:?}");
                let row = session.query("SELECT 1, NULL, CURRENT_USER()").await.unwrap();
                assert_eq!(row[0][..2], [Some("1".to_owned()), None]);
                assert!(session.query("SELECT nonsense FROM nowhere").await.is_err());
                assert_eq!(session.value("SELECT 2").await.unwrap().as_deref(), Some("2"));
            }
            (Err(words), Err(fault)) => assert!(fault.message.contains(words), "{mode:?}: {fault}"),
            (expected, opened) => panic!("{mode:?}: {expected:?}, {:?}", opened.err()),
        }
    }
    let mut wrong = connect(shard, primary);
    wrong.account.password = "wrong".to_owned().into();
    let fault = Session::open(&wrong).await.err().unwrap();
    assert_eq!(fault.kind, backstop_model::fault::Kind::Denied);
    assert!(!fault.message.contains(shard.password()));
}
