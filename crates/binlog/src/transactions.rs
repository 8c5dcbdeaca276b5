//! Transactions of a segment of a binlog file, without their changes.

use backstop_types::archive::Commit;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use chrono::DateTime;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::event::{self, EventHeader, FILE_MAGIC, HEADER_BYTES, kind};

/// Largest GTID event that is parsed, in bytes. Real ones are far smaller.
const MAX_GTID_EVENT_BYTES: usize = 64 * 1024;

/// Returns the transactions in a segment from `start` to `end` of a file, in order. Reads the
/// segment to its end, so that a checking reader has checked all of it.
///
/// # Errors
/// Returns the errors of the input, and [`ErrorKind::Damaged`] if it is not a segment of a binlog.
pub async fn segment_commits(mut input: impl AsyncRead + Unpin, start: u64, end: u64) -> Result<Vec<Commit>> {
    let (mut at, mut found) = (start, Vec::new());
    if at == 0 {
        let mut magic = [0; FILE_MAGIC.len()];
        input.read_exact(&mut magic).await.context(ErrorKind::Damaged, "cannot read a segment")?;
        if magic != FILE_MAGIC {
            return Err(wrong(at, "the file has no binlog magic number"));
        }
        at = FILE_MAGIC.len() as u64;
    }
    while at < end {
        let mut bytes = [0; HEADER_BYTES];
        input.read_exact(&mut bytes).await.context(ErrorKind::Damaged, "cannot read a segment")?;
        let header = EventHeader::parse(&bytes).ok_or_else(|| wrong(at, "invalid event header"))?;
        let (size, mut length) = (u64::from(header.size), u64::from(header.size));
        let mut read = HEADER_BYTES as u64;
        if matches!(header.kind, kind::GTID | kind::TAGGED_GTID) {
            let mut body = vec![0; (size - read).min(MAX_GTID_EVENT_BYTES as u64) as usize];
            input.read_exact(&mut body).await.context(ErrorKind::Damaged, "cannot read a segment")?;
            read += body.len() as u64;
            // A checksum may follow the body: the parser does not read beyond the known fields.
            let gtid = event::gtid(header.kind, &body).filter(|gtid| gtid.length >= size);
            let gtid = gtid.ok_or_else(|| wrong(at, "the GTID event has an unknown format"))?;
            length = gtid.length;
            let committed = i64::try_from(gtid.original_commit).ok().filter(|at| *at > 0);
            let committed = committed.and_then(DateTime::from_timestamp_micros);
            found.push(Commit { gtid: gtid.gtid, committed });
        }
        let rest = length - read;
        let skipped = tokio::io::copy(&mut (&mut input).take(rest), &mut tokio::io::sink()).await;
        if skipped.context(ErrorKind::Damaged, "cannot read a segment")? != rest {
            return Err(wrong(at, "it is cut off"));
        }
        at += length;
    }
    if at != end {
        return Err(wrong(at, "a transaction is longer than the segment"));
    }
    Ok(found)
}

fn wrong(at: u64, what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("cannot read a segment: at offset {at} of its file: {what}"))
}
