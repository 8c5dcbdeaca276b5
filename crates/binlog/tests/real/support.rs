//! What the tests share: an archive of a real server in a folder, and what is written to servers.

use std::path::PathBuf;
use std::time::Duration;

use backstop_binlog::{Acknowledge, AtEnd, Connect, Cutter, Dump, Folder, Segment, Session, Step};
use backstop_model::fault::Result;
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use backstop_testkit::{Member, Shard};

pub const SECOND: Duration = Duration::from_secs(1);
pub const REPLICA: &str = "0b5c0000-0000-4000-8000-000000000001";

pub fn connect(shard: &Shard, member: &Member) -> Connect {
    let credentials = shard.credentials();
    let endpoint = member.endpoint();
    Connect {
        account: credentials.replication_account(),
        tls: credentials.tls_for(&endpoint),
        endpoint,
        deadline: Duration::from_secs(20),
    }
}

pub fn dump(executed: &GtidSet, at_end: AtEnd) -> Dump {
    Dump {
        server_id: 4711,
        replica_uuid: REPLICA.parse().unwrap(),
        executed: executed.clone(),
        heartbeat: SECOND,
        acknowledge: Acknowledge::Never,
        at_end,
    }
}

pub async fn uuid(member: &Member) -> ServerUuid {
    member.value("SELECT @@GLOBAL.server_uuid").await.parse().unwrap()
}

/// Reads on until the source's end or a step that `stop` wants to be the last.
pub async fn read(
    connect: &Connect,
    dump: &Dump,
    cutter: &mut Cutter,
    sink: &mut Folder,
    mut stop: impl FnMut(&Step) -> bool,
) -> Result<Step> {
    let (mut stream, _acknowledger) = Session::open(connect).await?.dump(dump).await?;
    loop {
        let step = cutter.step(&mut stream, sink, SECOND).await?;
        if cutter.unsealed() > 4 << 20 {
            cutter.cut(sink).await?;
        }
        if matches!(step, Step::End | Step::Refused(_)) || stop(&step) {
            return Ok(step);
        }
    }
}

/// All that a server has, in segments.
pub async fn all_of(shard: &Shard, member: &Member, sink: &mut Folder) -> Cutter {
    let purged = member.value("SELECT @@GLOBAL.gtid_purged").await.parse().unwrap();
    let mut cutter = Cutter::new(uuid(member).await, purged);
    let held = cutter.held().clone();
    let end = read(&connect(shard, member), &dump(&held, AtEnd::Stop), &mut cutter, sink, |_| false).await;
    assert_eq!(end, Ok(Step::End));
    cutter.cut(sink).await.unwrap();
    cutter
}

/// The pieces of each file put together, in order.
pub fn files(sink: &Folder, of: ServerUuid) -> Vec<(String, Vec<u8>)> {
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

/// Every piece put together must be the server's own file, as it sends it.
pub fn assert_identical(sink: &Folder, of: ServerUuid, member: &Member) -> Vec<String> {
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

/// The hash of each segment is that of its bytes, and no transaction is in two of one server.
pub fn assert_described(sink: &Folder, of: ServerUuid) -> GtidSet {
    let mut all = GtidSet::new();
    for segment in sink.sealed().iter().filter(|segment| segment.source == of) {
        let bytes = std::fs::read(sink.path_of(segment)).unwrap();
        assert_eq!(segment.hash, *blake3::hash(&bytes).as_bytes());
        assert!(all.intersect(&segment.gtids).is_empty());
        assert!(all.is_subset_of(&segment.previous));
        assert_eq!(segment.committed.is_some(), !segment.gtids.is_empty());
        all = all.union(&segment.gtids);
    }
    all
}

/// Every kind of transaction.
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

/// `mysqlbinlog` of the server under test.
pub async fn mysqlbinlog() -> PathBuf {
    backstop_testkit::program::server_program().await.tools.join("mysqlbinlog")
}

pub fn last(sink: &Folder) -> &Segment {
    sink.sealed().last().unwrap()
}
