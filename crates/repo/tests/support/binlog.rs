//! Segments of binlog files for a repository, which does not parse them.

use backstop_binlog::Segment;
use backstop_repo::{ArchiveReader, ArchiveWriter};
use backstop_types::archive::SegmentHash;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use chrono::DateTime;
use tokio::io::AsyncReadExt;

use super::noise;

pub const SERVER_A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
pub const SERVER_B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

pub fn uuid(text: &str) -> ServerUuid {
    text.parse().unwrap()
}

pub fn set(text: &str) -> GtidSet {
    text.replace('A', SERVER_A).replace('B', SERVER_B).parse().unwrap()
}

/// Returns transactions `from..=to` of server A, one in each `size` bytes and each second, of a
/// file that begins with transaction 1. Transactions below the minimum size are noise.
pub fn make_segment(from: u64, to: u64, size: u64) -> (Segment, Vec<u8>) {
    let make =
        |number| if size < SMALLEST { noise(number, size as usize) } else { transaction(number, size) };
    of(from, to, size, (from..=to).flat_map(make).collect())
}

/// Returns such a segment filled with noise.
pub fn make_noisy_segment(from: u64, to: u64, size: u64) -> (Segment, Vec<u8>) {
    of(from, to, size, (from..=to).flat_map(|number| noise(number, size as usize)).collect())
}

/// Minimum size of a transaction in bytes.
pub const SMALLEST: u64 = 120;

/// Returns the GTID event of a transaction, with noise behind the fields that are read; the first
/// transaction follows the header of a file.
fn transaction(number: u64, size: u64) -> Vec<u8> {
    let mut bytes = if number == 1 { b"\xfebin".to_vec() } else { Vec::new() };
    let size = size as usize - bytes.len();
    let end = (number * (size + bytes.len()) as u64) as u32;
    bytes.extend([0; 4]);
    bytes.push(33);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend((size as u32).to_le_bytes());
    bytes.extend(end.to_le_bytes());
    bytes.extend([0; 3]);
    bytes.extend(uuid(SERVER_A).0.as_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.push(2);
    bytes.extend([0; 16]);
    bytes.extend([1, 1, 1, 1, 1, 1, 0, 254]);
    bytes.extend((size as u64).to_le_bytes());
    bytes.extend(noise(number, size - 19 - 49 - 9));
    bytes
}

fn of(from: u64, to: u64, size: u64, bytes: Vec<u8>) -> (Segment, Vec<u8>) {
    let at = |number: u64| DateTime::from_timestamp(1_795_000_000 + number as i64, 0).unwrap();
    let previous = if from == 1 { GtidSet::new() } else { set(&format!("A:1-{}", from - 1)) };
    let segment = Segment {
        source: uuid(SERVER_A),
        file: "binlog.000001".into(),
        start: (from - 1) * size,
        end: to * size,
        previous,
        gtids: set(&format!("A:{from}-{to}")),
        committed: Some((at(from), at(to))),
        hash: SegmentHash(*blake3::hash(&bytes).as_bytes()),
    };
    (segment, bytes)
}

/// Seals noise, as in the golden archives.
pub async fn seal_noise(writer: &ArchiveWriter, from: u64, to: u64, size: u64) {
    let (segment, bytes) = make_noisy_segment(from, to, size);
    writer.seal(&segment, &bytes).await.unwrap();
}

pub async fn tail(writer: &ArchiveWriter, from: u64, to: u64, size: u64) {
    let (segment, bytes) = make_segment(from, to, size);
    writer.put_tail(&segment, &bytes).await.unwrap();
}

pub async fn seal(writer: &ArchiveWriter, from: u64, to: u64, size: u64) {
    let (segment, bytes) = make_segment(from, to, size);
    writer.seal(&segment, &bytes).await.unwrap();
}

/// Returns every byte of the archive's only file.
pub async fn file(reader: &ArchiveReader) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in reader.contents().await.unwrap().segments {
        assert_eq!(segment.start, all.len() as u64);
        reader.open(&segment).await.unwrap().read_to_end(&mut all).await.unwrap();
    }
    all
}
