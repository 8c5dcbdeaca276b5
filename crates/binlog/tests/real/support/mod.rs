//! Shared parts of the tests: an archive of a real server in a folder, and statements for servers.

#[allow(dead_code, reason = "shared with the tests of the program")]
#[path = "../../../../cli/tests/hardship/support/random.rs"]
pub mod random;

use std::path::PathBuf;
use std::time::Duration;

use backstop_binlog::{
    AtBinlogEnd, ConnectOptions, DumpRequest, Segment, SegmentFolder, Segmenter, SegmenterStep, SemiSyncMode,
    Session,
};
use backstop_testkit::{TestMember, TestShard};
use backstop_types::error::Result;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;

pub const SECOND: Duration = Duration::from_secs(1);
pub const REPLICA: &str = "0b5c0000-0000-4000-8000-000000000001";

pub fn connect(shard: &TestShard, member: &TestMember) -> ConnectOptions {
    let credentials = shard.credentials();
    let endpoint = member.endpoint();
    ConnectOptions {
        account: credentials.replication_account(),
        tls: credentials.tls_for(&endpoint),
        endpoint,
        deadline: Duration::from_secs(20),
    }
}

pub fn dump(executed: &GtidSet, at_end: AtBinlogEnd) -> DumpRequest {
    DumpRequest {
        server_id: 4711,
        replica_uuid: REPLICA.parse().unwrap(),
        executed: executed.clone(),
        heartbeat: SECOND,
        acknowledge: SemiSyncMode::Never,
        at_end,
    }
}

pub async fn uuid(member: &TestMember) -> ServerUuid {
    member.value("SELECT @@GLOBAL.server_uuid").await.parse().unwrap()
}

/// Reads until the source's end or the step that `stop` selects as the last.
pub async fn read(
    connect: &ConnectOptions,
    dump: &DumpRequest,
    segmenter: &mut Segmenter,
    sink: &mut SegmentFolder,
    mut stop: impl FnMut(&SegmenterStep) -> bool,
) -> Result<SegmenterStep> {
    let (mut stream, _acknowledger) = Session::open(connect).await?.dump(dump).await?;
    loop {
        let step = segmenter.step(&mut stream, sink, SECOND).await?;
        if segmenter.unsealed() > 4 << 20 {
            segmenter.cut(sink).await?;
        }
        if matches!(step, SegmenterStep::End | SegmenterStep::Refused(_)) || stop(&step) {
            return Ok(step);
        }
    }
}

/// Reads everything that a server has into segments.
pub async fn all_of(shard: &TestShard, member: &TestMember, sink: &mut SegmentFolder) -> Segmenter {
    let purged = member.value("SELECT @@GLOBAL.gtid_purged").await.parse().unwrap();
    let mut segmenter = Segmenter::new(uuid(member).await, purged);
    let held = segmenter.held().clone();
    let end =
        read(&connect(shard, member), &dump(&held, AtBinlogEnd::Stop), &mut segmenter, sink, |_| false).await;
    assert_eq!(end, Ok(SegmenterStep::End));
    segmenter.cut(sink).await.unwrap();
    segmenter
}

/// Returns the segments of each file joined in order.
pub fn files(sink: &SegmentFolder, of: ServerUuid) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for segment in sink.sealed().iter().filter(|segment| segment.source == of) {
        let bytes = std::fs::read(sink.path_of(segment)).unwrap();
        assert_eq!(segment.size(), bytes.len() as u64);
        if segment.start == 0 {
            files.push((segment.file.clone(), Vec::new()));
        }
        let (name, file) = files.last_mut().unwrap();
        assert_eq!((&segment.file, segment.start), (&*name, file.len() as u64), "the pieces do not fit");
        file.extend(bytes);
    }
    files
}

/// Checks that the joined segments equal the server's own file, as the server sends it.
pub fn assert_identical(sink: &SegmentFolder, of: ServerUuid, member: &TestMember) -> Vec<String> {
    let files = files(sink, of);
    assert!(!files.is_empty());
    for (name, bytes) in &files {
        let own = member.binlog_as_sent(name, bytes);
        assert_eq!(own.len(), bytes.len(), "{name}");
        let differs: Vec<_> = (0..own.len()).filter(|&at| own[at] != bytes[at]).take(8).collect();
        assert!(differs.is_empty(), "{name} differs at {differs:?}");
    }
    files.into_iter().map(|(name, _)| name).collect()
}

/// Checks that the hash of each segment is that of its bytes, and that no transaction is in two
/// segments of one server.
pub fn assert_described(sink: &SegmentFolder, of: ServerUuid) -> GtidSet {
    let mut all = GtidSet::new();
    for segment in sink.sealed().iter().filter(|segment| segment.source == of) {
        let bytes = std::fs::read(sink.path_of(segment)).unwrap();
        assert_eq!(segment.hash.0, *blake3::hash(&bytes).as_bytes());
        assert!(all.intersect(&segment.gtids).is_empty());
        assert!(all.is_subset_of(&segment.previous));
        assert_eq!(segment.committed.is_some(), !segment.gtids.is_empty());
        all = all.union(&segment.gtids);
    }
    all
}

/// Statements for every kind of transaction.
pub const ALL_KINDS: [&str; 26] = [
    "CREATE DATABASE kinds",
    "CREATE TABLE kinds.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB)",
    "INSERT INTO kinds.t (v) VALUES ('one')",
    "BEGIN",
    "INSERT INTO kinds.t (v) VALUES ('two')",
    "INSERT INTO kinds.t (v) VALUES ('three')",
    "COMMIT",
    "SET GTID_NEXT = 'AUTOMATIC:blue'",
    "INSERT INTO kinds.t (v) VALUES ('tagged')",
    "SET GTID_NEXT = 'AUTOMATIC:a_rather_long_tag_with_many_sign'",
    "CREATE TABLE kinds.u (id INT PRIMARY KEY)",
    "SET GTID_NEXT = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeffffff:red:1000000'",
    "INSERT INTO kinds.u VALUES (1)",
    "SET GTID_NEXT = 'AUTOMATIC'",
    "FLUSH BINARY LOGS",
    "XA START 'x'",
    "INSERT INTO kinds.t (v) VALUES ('xa')",
    "XA END 'x'",
    "XA PREPARE 'x'",
    "XA COMMIT 'x'",
    "SET SESSION binlog_transaction_compression = ON",
    "INSERT INTO kinds.t (v) VALUES (REPEAT('compressed', 10000))",
    "SET SESSION binlog_transaction_compression = OFF",
    "INSERT INTO kinds.t (v) VALUES (REPEAT('large', 4000000))",
    "CREATE TABLE kinds.s AS SELECT id FROM kinds.t",
    "INSERT INTO kinds.t (v) VALUES ('last')",
];

/// Returns the path of `mysqlbinlog` of the tested server.
pub async fn mysqlbinlog() -> PathBuf {
    backstop_testkit::server_program::server_program().await.tools.join("mysqlbinlog")
}

pub fn last(sink: &SegmentFolder) -> &Segment {
    sink.sealed().last().unwrap()
}
