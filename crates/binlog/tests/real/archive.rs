//! Tests of the stream of a server, cut into segments.

use backstop_binlog::{AtBinlogEnd, SegmentFolder, Segmenter, SegmenterStep, Session};
use backstop_testkit::{ShardLayout, TestShard, TestWorkload};
use backstop_types::login::{TlsMode, TlsSettings};

use crate::support::*;

#[tokio::test]
async fn every_kind_of_transaction_is_archived_byte_for_byte() {
    for checksum in ["CRC32", "NONE"] {
        let layout = ShardLayout::single()
            .option(&format!("binlog_checksum = {checksum}"))
            .option("max_allowed_packet = 256M");
        let shard = TestShard::start(layout).await;
        let primary = shard.primary();
        primary.run(&ALL_KINDS).await;
        let dir = tempfile::tempdir().unwrap();
        let mut sink = SegmentFolder::new(dir.path());
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
async fn archive_is_identical_after_breaks_under_load() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let workload = TestWorkload::start(primary).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = SegmentFolder::new(dir.path());
    let of = uuid(primary).await;
    let mut segmenter = Segmenter::new(of, Default::default());
    // The connection ends repeatedly, and the archiver restarts in between.
    for round in 0..8 {
        let (mut left, held) = (7 + round * 5, segmenter.held().clone());
        let stop = |step: &SegmenterStep| {
            left -= i32::from(matches!(step, SegmenterStep::Transaction { .. }));
            left == 0
        };
        read(&connect(&shard, primary), &dump(&held, AtBinlogEnd::Wait), &mut segmenter, &mut sink, stop)
            .await
            .unwrap();
        match round {
            2 | 5 => primary.run(&["FLUSH BINARY LOGS"]).await,
            3 | 6 => {
                segmenter.cut(&mut sink).await.unwrap();
                segmenter = Segmenter::after(last(&sink));
            }
            _ => {}
        }
    }
    // The source is killed in mid-file during the read.
    let held = segmenter.held().clone();
    let (mut stream, _acknowledger) = Session::open(&connect(&shard, primary))
        .await
        .unwrap()
        .dump(&dump(&held, AtBinlogEnd::Wait))
        .await
        .unwrap();
    workload.wait_for_more(5).await;
    primary.kill();
    while segmenter.step(&mut stream, &mut sink, SECOND).await.is_ok() {}
    workload.stop().await;
    primary.start().await;
    primary.run(&["CREATE DATABASE after_the_crash"]).await;
    let held = segmenter.held().clone();
    read(&connect(&shard, primary), &dump(&held, AtBinlogEnd::Stop), &mut segmenter, &mut sink, |_| false)
        .await
        .unwrap();
    segmenter.cut(&mut sink).await.unwrap();
    assert_identical(&sink, of, primary);
    assert_eq!(assert_described(&sink, of), primary.gtid_executed().await);
}

#[tokio::test]
async fn silence_purges_holes_and_logins_are_handled() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    primary.run(&["CREATE DATABASE one", "CREATE DATABASE two"]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = SegmentFolder::new(dir.path());
    let connect = connect(&shard, primary);

    // Without changes, heartbeats arrive with the position of the source's end.
    let mut segmenter = all_of(&shard, primary, &mut sink).await;
    let held = segmenter.held().clone();
    let beat = |step: &SegmenterStep| matches!(step, SegmenterStep::Heartbeat { .. });
    let step =
        read(&connect, &dump(&held, AtBinlogEnd::Wait), &mut segmenter, &mut sink, beat).await.unwrap();
    let (file, offset) = segmenter.position().unwrap();
    assert_eq!(step, SegmenterStep::Heartbeat { file: file.to_owned(), offset });

    // A stopped source, in contrast, is silent.
    let held = segmenter.held().clone();
    let (mut stream, _acknowledger) =
        Session::open(&connect).await.unwrap().dump(&dump(&held, AtBinlogEnd::Wait)).await.unwrap();
    let pid = rustix::process::Pid::from_raw(primary.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let error = loop {
        if let Err(error) = segmenter.step(&mut stream, &mut sink, SECOND).await {
            break error;
        }
    };
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(error.message.contains("heartbeat"), "{error}");

    // A set that begins in mid-file leaves a gap, which is detected and can be filled.
    let of = uuid(primary).await;
    let first = "SELECT CONCAT(@@server_uuid, ':1-2')";
    let archived = primary.value(first).await.parse().unwrap();
    let mut segmenter = Segmenter::new(of, archived);
    let held = segmenter.held().clone();
    let hole = |step: &SegmenterStep| matches!(step, SegmenterStep::Hole { .. });
    let step =
        read(&connect, &dump(&held, AtBinlogEnd::Stop), &mut segmenter, &mut sink, hole).await.unwrap();
    let SegmenterStep::Hole { previous } = step else { panic!("{step:?}") };
    assert!(previous.is_empty(), "{previous}");

    // Purged transactions cannot be read.
    primary.run(&["FLUSH BINARY LOGS"]).await;
    let file = primary.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    primary.run(&[&format!("PURGE BINARY LOGS TO '{file}'")]).await;
    let mut segmenter = Segmenter::new(of, Default::default());
    let none = Default::default();
    let step =
        read(&connect, &dump(&none, AtBinlogEnd::Stop), &mut segmenter, &mut sink, |_| false).await.unwrap();
    let SegmenterStep::Refused(error) = step else { panic!("{step:?}") };
    assert!(error.message.contains("1236") && error.hint.is_some(), "{error}");

    logins(&shard).await;
}

/// Tests every login method; the server has forgotten the password's hash where noted.
async fn logins(shard: &TestShard) {
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
        connect.tls = TlsSettings { mode, ca };
        let opened = Session::open(&connect).await;
        match (encrypted, opened) {
            (Ok(expected), Ok(mut session)) => {
                assert_eq!(session.is_encrypted(), expected, "{mode:?}");
                let row = session.query("SELECT 1, NULL, CURRENT_USER()").await.unwrap();
                assert_eq!(row[0][..2], [Some("1".to_owned()), None]);
                assert!(session.query("SELECT nonsense FROM nowhere").await.is_err());
                assert_eq!(session.value("SELECT 2").await.unwrap().as_deref(), Some("2"));
            }
            (Err(words), Err(error)) => assert!(error.message.contains(words), "{mode:?}: {error}"),
            (expected, opened) => panic!("{mode:?}: {expected:?}, {:?}", opened.err()),
        }
    }
    let mut wrong = connect(shard, primary);
    wrong.account.password = "wrong".to_owned().into();
    let error = Session::open(&wrong).await.err().unwrap();
    assert_eq!(error.kind, backstop_types::error::ErrorKind::Denied);
    assert!(!error.message.contains(shard.password()));
}
