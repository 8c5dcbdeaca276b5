//! Reads the binary logs that a real server writes.

use std::fs::File;
use std::io::Cursor;

use backstop_binlog::{BinlogFile, InvalidBinlog};
use backstop_testkit::{ShardLayout, TestMember, TestShard};
use backstop_types::gtid::GtidSet;

/// Writes every kind of transaction: DDL, rows, several statements, tags, XA in two phases,
/// compressed, larger than a buffer.
async fn write_all_kinds(member: &TestMember) {
    member
        .run(&[
            "FLUSH BINARY LOGS",
            "CREATE DATABASE kinds",
            "CREATE TABLE kinds.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB)",
            "INSERT INTO kinds.t (v) VALUES ('one')",
            "BEGIN",
            "INSERT INTO kinds.t (v) VALUES ('two')",
            "INSERT INTO kinds.t (v) VALUES ('three')",
            "COMMIT",
            "SET GTID_NEXT = 'AUTOMATIC:blue'",
            "INSERT INTO kinds.t (v) VALUES ('tagged')",
            "INSERT INTO kinds.t (v) VALUES ('tagged again')",
            "SET GTID_NEXT = 'AUTOMATIC:a_rather_long_tag_with_many_sign'",
            "CREATE TABLE kinds.u (id INT)",
            "SET GTID_NEXT = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeffffff:red:1000000'",
            "INSERT INTO kinds.u VALUES (1)",
            "SET GTID_NEXT = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeffffff:9000000000'",
            "INSERT INTO kinds.u VALUES (2)",
            "SET GTID_NEXT = 'AUTOMATIC'",
            "XA START 'x'",
            "INSERT INTO kinds.t (v) VALUES ('xa')",
            "XA END 'x'",
            "XA PREPARE 'x'",
            "XA COMMIT 'x'",
            "SET SESSION binlog_transaction_compression = ON",
            "INSERT INTO kinds.t (v) VALUES (REPEAT('compressed', 10000))",
            "SET SESSION binlog_transaction_compression = OFF",
            "INSERT INTO kinds.t (v) VALUES (REPEAT('large', 300000))",
            "DROP TABLE kinds.u",
        ])
        .await;
}

/// Returns the bytes of the newest binary log.
async fn newest(member: &TestMember) -> Vec<u8> {
    let name = member.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    std::fs::read(member.datadir().join(name)).unwrap()
}

#[tokio::test]
async fn only_whole_transactions_are_found() {
    for checksum in ["CRC32", "NONE"] {
        let shard =
            TestShard::start(ShardLayout::single().option(&format!("binlog_checksum = {checksum}"))).await;
        let primary = shard.primary();
        let before = primary.gtid_executed().await;
        write_all_kinds(primary).await;
        let bytes = newest(primary).await;
        let written = primary.gtid_executed().await.subtract(&before);

        let all = BinlogFile::open(Cursor::new(&bytes)).unwrap().transactions(0).unwrap();
        let mut found = GtidSet::new();
        all.iter().for_each(|transaction| found.insert(&transaction.gtid));
        assert_eq!(found, written);
        assert_eq!(all.last().unwrap().end, bytes.len() as u64);

        // From any transaction, and cut at any point: exactly the whole transactions are found.
        for (number, transaction) in all.iter().enumerate() {
            let rest =
                BinlogFile::open(Cursor::new(&bytes)).unwrap().transactions(transaction.start).unwrap();
            assert_eq!(rest, all[number..]);
            for cut in [transaction.start + 1, transaction.start + 30, transaction.end - 1, transaction.end] {
                let torn = &bytes[..cut as usize];
                let whole: Vec<_> = all.iter().filter(|whole| whole.end <= cut).cloned().collect();
                assert_eq!(
                    BinlogFile::open(Cursor::new(torn)).unwrap().transactions(0).unwrap(),
                    whole,
                    "cut at {cut}"
                );
            }
        }
        if checksum == "CRC32" {
            let broken = &all[all.len() / 2];
            let mut damaged = bytes.clone();
            damaged[broken.end as usize - 8] ^= 1;
            let sound = BinlogFile::open(Cursor::new(&damaged)).unwrap().transactions(0).unwrap();
            assert_eq!(sound, all[..all.len() / 2]);
        }
    }
}

#[tokio::test]
async fn file_that_is_no_binlog_is_refused() {
    let open = |bytes: &'static [u8]| BinlogFile::open(Cursor::new(bytes)).err().unwrap();
    assert!(matches!(open(b"\xfdbin and more"), InvalidBinlog::Encrypted));
    assert!(matches!(open(b"something"), InvalidBinlog::Form { at: 0, .. }));
    assert!(matches!(open(b"\xfebin"), InvalidBinlog::Form { at: 4, .. }));
    assert!(matches!(BinlogFile::open(File::open("/dev/null").unwrap()), Err(InvalidBinlog::Io(_))));
}
