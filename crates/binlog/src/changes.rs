//! Changes of the transactions in a segment of a binlog file: tables and numbers of rows, not their
//! contents.
//!
//! A compressed transaction is one event, Transaction_payload (type 40). Its body has fields of
//! type, length and value, all packed: 1 size of the payload, 2 kind of compression (0 zstd, 255
//! none), 3 uncompressed size; type 0 ends them. Then follow events without checksums.

use std::collections::BTreeMap;
use std::io::{self, Read};

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::gtid::Gtid;
use backstop_types::scheduled_events::EventChange;
use chrono::DateTime;

use crate::event::{self, Checksums, EventHeader, FILE_MAGIC, HEADER_BYTES, kind};
use crate::gtid_event::GtidEvent;
use crate::rows::{self, RowsAction, TableMap};
use crate::statement::{Statement, StatementKind};
use crate::{ChangeKind, DataLoss, FoundTransaction, TableRows};

/// Largest event that is buffered, in bytes. A larger one is a single row or a long statement.
const MAX_EVENT_BYTES: usize = 4 << 20;
/// Longest statement that is kept, in characters.
const MAX_STATEMENT_CHARS: usize = 1000;

/// Reports the changes of each transaction in a segment from `start` to `end` of a file, in order.
/// Buffers one event at a time.
///
/// # Errors
/// Returns the errors of the input, and [`ErrorKind::Damaged`] if it is not a segment of a binlog.
pub fn transaction_changes(
    input: impl Read,
    start: u64,
    end: u64,
    each: &mut dyn FnMut(FoundTransaction),
) -> Result<()> {
    transactions(input, start, end, &mut |change| each(change.told()))
}

/// Reports each statement on events (`CREATE EVENT`, …) in a segment, in order, with its
/// transaction.
///
/// # Errors
/// Returns the same errors as [`transaction_changes`].
pub fn event_changes(
    input: impl Read,
    start: u64,
    end: u64,
    each: &mut dyn FnMut(Gtid, EventChange),
) -> Result<()> {
    transactions(input, start, end, &mut |change| {
        change.events.into_iter().for_each(|event| each(change.gtid.gtid.clone(), event));
    })
}

fn transactions(
    mut input: impl Read,
    start: u64,
    end: u64,
    each: &mut dyn FnMut(TransactionChange),
) -> Result<()> {
    let mut at = start;
    if at == 0 {
        let mut magic = [0; FILE_MAGIC.len()];
        input.read_exact(&mut magic).context(ErrorKind::Damaged, READING_SEGMENT)?;
        at = magic.len() as u64;
    }
    let mut reader = SegmentEvents { checksums: None, tables: BTreeMap::new(), current: None };
    while at < end {
        let (header, start) = header(&mut input)?;
        at += u64::from(header.size);
        if let Some(change) = reader.event(&mut input, &header, &start)? {
            each(change);
        }
    }
    if let Some(change) = reader.current.take() {
        each(change);
    }
    Ok(())
}

const READING_SEGMENT: &str = "cannot read a segment";

/// Reader of the events of one segment.
struct SegmentEvents {
    checksums: Option<Checksums>,
    tables: BTreeMap<u64, TableMap>,
    current: Option<TransactionChange>,
}

/// Changes of a transaction so far.
struct TransactionChange {
    gtid: GtidEvent,
    tables: Vec<TableRows>,
    definition: bool,
    statement: Option<String>,
    statement_based: bool,
    events: Vec<EventChange>,
    loses: Option<DataLoss>,
}

impl SegmentEvents {
    /// Reads an event. A GTID event ends the previous transaction, which is then reported.
    fn event(
        &mut self,
        input: &mut impl Read,
        header: &EventHeader,
        start: &[u8; HEADER_BYTES],
    ) -> Result<Option<TransactionChange>> {
        let size = header.size as usize - HEADER_BYTES;
        match header.kind {
            kind::GTID | kind::TAGGED_GTID => {
                let body = whole(input, size.min(MAX_EVENT_BYTES))?;
                let gtid = event::gtid(header.kind, &body).ok_or_else(|| garbled("invalid GTID event"))?;
                // Only the first segment of a file has a description. A correct checksum shows that
                // events carry one.
                let event = [&start[..], &body].concat();
                let summed = Checksums::Crc32.hold(&event);
                self.checksums.get_or_insert(if summed { Checksums::Crc32 } else { Checksums::None });
                self.tables.clear();
                let next = TransactionChange::new(gtid);
                return Ok(self.current.replace(next));
            }
            kind::TRANSACTION_PAYLOAD => self.payload(&mut input.take(size as u64))?,
            _ => {
                let sum = self.checksums.map_or(0, Checksums::length);
                self.inner(input, header.kind, size, sum)?;
            }
        }
        Ok(None)
    }

    /// Reads an event of a transaction.
    fn inner(&mut self, input: &mut impl Read, kind: u8, size: usize, sum: usize) -> Result<()> {
        let wanted = matches!(kind, kind::QUERY | kind::TABLE_MAP) || rows::rows_action(kind).is_some();
        let Some(change) = self.current.as_mut().filter(|_| wanted) else { return skip(input, size) };
        let body = whole(input, size.min(MAX_EVENT_BYTES))?;
        if body.len() < size {
            skip(input, size - body.len())?;
            large_event(change, &self.tables, kind, &body);
            return Ok(());
        }
        let body = body.get(..size.saturating_sub(sum)).unwrap_or_default();
        match (kind, rows::rows_action(kind)) {
            (kind::TABLE_MAP, _) => {
                if let Some(table) = TableMap::parse(body) {
                    self.tables.insert(table.id, table);
                }
            }
            (_, Some(action)) => {
                let table = rows::table_id(body).and_then(|id| self.tables.get(&id));
                change.rows(table, action, table.and_then(|table| table.count(kind, body)));
            }
            _ => {
                if let Some(statement) = Statement::parse(body) {
                    change.ran(&statement);
                }
            }
        }
        Ok(())
    }

    fn payload(&mut self, input: &mut io::Take<&mut impl Read>) -> Result<()> {
        let (mut compression, mut size) = (0, None);
        loop {
            let field = packed_integer(input)?;
            if field == 0 {
                break;
            }
            let length = packed_integer(input)?;
            let before = input.limit();
            match field {
                1 => size = Some(packed_integer(input)?),
                2 => compression = packed_integer(input)?,
                _ => {}
            }
            let read = before - input.limit();
            let rest = length.checked_sub(read).ok_or_else(|| garbled("invalid compressed transaction"))?;
            skip(input, rest as usize)?;
        }
        let size = size.ok_or_else(|| garbled("invalid compressed transaction"))?;
        let mut compressed = input.take(size);
        match compression {
            0 => {
                let decoder =
                    zstd::stream::read::Decoder::new(&mut compressed).failed("cannot start decompression")?;
                self.events(decoder)?;
            }
            255 => self.events(&mut compressed)?,
            other => return Err(garbled(&format!("unknown compression {other} of a transaction"))),
        }
        skip_all(input)
    }

    /// Reads events without checksums to the end of the input.
    fn events(&mut self, mut input: impl Read) -> Result<()> {
        loop {
            let mut start = [0; HEADER_BYTES];
            let mut first = [0; 1];
            if input.read(&mut first).context(ErrorKind::Damaged, READING_SEGMENT)? == 0 {
                return Ok(());
            }
            start[0] = first[0];
            input.read_exact(&mut start[1..]).context(ErrorKind::Damaged, READING_SEGMENT)?;
            let header = EventHeader::parse(&start).ok_or_else(|| garbled("invalid event header"))?;
            self.inner(&mut input, header.kind, header.size as usize - HEADER_BYTES, 0)?;
        }
    }
}

/// Handles an event too large to buffer: a row, perhaps with others, or a statement.
fn large_event(change: &mut TransactionChange, tables: &BTreeMap<u64, TableMap>, kind: u8, begin: &[u8]) {
    match rows::rows_action(kind) {
        Some(action) => {
            let table = rows::table_id(begin).and_then(|id| tables.get(&id));
            change.rows(table, action, None);
        }
        None => {
            if let Some(statement) = Statement::parse(begin) {
                change.ran(&statement);
            }
        }
    }
}

impl TransactionChange {
    fn new(gtid: GtidEvent) -> Self {
        Self {
            gtid,
            tables: Vec::new(),
            definition: false,
            statement: None,
            statement_based: false,
            events: Vec::new(),
            loses: None,
        }
    }

    /// Adds this number of touched rows of a table; `None`: at least one.
    fn rows(&mut self, table: Option<&TableMap>, action: RowsAction, count: Option<u64>) {
        let (schema, name) = table.map_or(("?", "?"), |table| (&table.schema, &table.name));
        let of = self.table(schema, name);
        of.at_least |= count.is_none();
        let rows = match action {
            RowsAction::Insert => &mut of.inserted,
            RowsAction::Update => &mut of.updated,
            RowsAction::Delete => &mut of.deleted,
        };
        *rows += count.unwrap_or(1);
    }

    fn table(&mut self, schema: &str, table: &str) -> &mut TableRows {
        let known = self.tables.iter().position(|known| known.schema == schema && known.table == table);
        let at = known.unwrap_or_else(|| {
            let (schema, table) = (schema.to_owned(), table.to_owned());
            self.tables.push(TableRows { schema, table, ..TableRows::default() });
            self.tables.len() - 1
        });
        &mut self.tables[at]
    }

    fn ran(&mut self, statement: &Statement) {
        match statement.sort() {
            StatementKind::Control => {
                if statement.text.starts_with("XA ") && self.statement.is_none() {
                    self.statement = Some(statement.shown(MAX_STATEMENT_CHARS));
                }
                return;
            }
            StatementKind::Rows => self.statement_based = true,
            StatementKind::Definition => {
                self.definition = true;
                self.events.extend(statement.event_change());
            }
        }
        self.statement = Some(statement.shown(MAX_STATEMENT_CHARS));
        self.loses = self.loses.max(statement.loses());
        for named in statement.tables() {
            self.table(&named.schema, &named.table).at_least |= self.statement_based;
        }
    }

    fn told(self) -> FoundTransaction {
        let rows = self.tables.iter().map(|table| table.inserted + table.updated + table.deleted).sum();
        let kind = match (self.definition, rows > 0 || self.statement_based) {
            (true, _) => ChangeKind::Ddl,
            (false, true) => ChangeKind::Dml,
            (false, false) => ChangeKind::Other,
        };
        let micros = i64::try_from(self.gtid.original_commit).ok().filter(|at| *at > 0);
        FoundTransaction {
            to: format!("before:{}", self.gtid.gtid),
            gtid: self.gtid.gtid.to_string(),
            committed_at: micros.and_then(DateTime::from_timestamp_micros),
            kind,
            tables: self.tables,
            rows,
            statement: self.statement,
            statement_based: self.statement_based,
            loses: self.loses,
        }
    }
}

fn header(input: &mut impl Read) -> Result<(EventHeader, [u8; HEADER_BYTES])> {
    let mut start = [0; HEADER_BYTES];
    input.read_exact(&mut start).context(ErrorKind::Damaged, READING_SEGMENT)?;
    let header = EventHeader::parse(&start).ok_or_else(|| garbled("invalid event header"))?;
    Ok((header, start))
}

fn whole(input: &mut impl Read, size: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = input.take(size as u64).read_to_end(&mut body).context(ErrorKind::Damaged, READING_SEGMENT)?;
    if read == size { Ok(body) } else { Err(garbled("truncated event")) }
}

fn skip(input: &mut impl Read, size: usize) -> Result<()> {
    let skipped = io::copy(&mut input.take(size as u64), &mut io::sink())
        .context(ErrorKind::Damaged, READING_SEGMENT)?;
    if skipped == size as u64 { Ok(()) } else { Err(garbled("truncated event")) }
}

fn skip_all(input: &mut impl Read) -> Result<()> {
    io::copy(input, &mut io::sink()).context(ErrorKind::Damaged, READING_SEGMENT).map(drop)
}

/// Reads a packed integer from a stream.
fn packed_integer(input: &mut impl Read) -> Result<u64> {
    let mut bytes = [0; 9];
    input.read_exact(&mut bytes[..1]).context(ErrorKind::Damaged, READING_SEGMENT)?;
    let more = match bytes[0] {
        0..=250 => 0,
        252 => 2,
        253 => 3,
        254 => 8,
        _ => return Err(garbled("invalid packed integer")),
    };
    input.read_exact(&mut bytes[1..=more]).context(ErrorKind::Damaged, READING_SEGMENT)?;
    crate::codec::FieldReader::new(&bytes).packed().ok_or_else(|| garbled("invalid packed integer"))
}

fn garbled(what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("{READING_SEGMENT}: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let header = EventHeader { kind, server_id: 1, size: 0, end: 0, flags: 0 };
        event::artificial_event(&header, body, Checksums::None)
    }

    fn gtid(number: u64) -> Vec<u8> {
        let mut body = vec![0; 17];
        body.extend(number.to_le_bytes());
        body.push(2);
        body.extend([0; 16]);
        body.extend([1, 0, 0, 0, 0, 0, 0, 50]);
        event(kind::GTID, &body)
    }

    fn query(text: &str) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend([1, 0, 0, 0, 0, b'd', 0]);
        body.extend(text.as_bytes());
        event(kind::QUERY, &body)
    }

    fn told(bytes: &[u8]) -> Result<Vec<FoundTransaction>> {
        let mut all = Vec::new();
        transaction_changes(bytes, 4, 4 + bytes.len() as u64, &mut |found| all.push(found)).map(|()| all)
    }

    #[test]
    fn ddl_rows_and_statements_are_distinguished() {
        let map = [&[7, 0, 0, 0, 0, 0, 1, 0, 1, b's', 0, 1, b't', 0, 1, 3, 0][..]].concat();
        let row = [7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0, 1, 0, 0, 0];
        let inner = [event(kind::TABLE_MAP, &map), event(30, &row)].concat();
        let compressed = zstd::encode_all(&inner[..], 3);
        let Ok(compressed) = compressed else { panic!("compress") };
        let mut payload = vec![2, 1, 0, 1, 1, compressed.len() as u8, 0];
        payload.extend(&compressed);
        let bytes = [
            gtid(1),
            query("DROP TABLE x"),
            gtid(2),
            query("BEGIN"),
            event(kind::TABLE_MAP, &map),
            event(30, &row),
            event(30, &row),
            gtid(3),
            query("BEGIN"),
            query("DELETE FROM y"),
            gtid(4),
            event(kind::TRANSACTION_PAYLOAD, &payload),
        ];
        let Ok(all) = told(&bytes.concat()) else { panic!("{:?}", told(&bytes.concat())) };
        let kinds: Vec<ChangeKind> = all.iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [ChangeKind::Ddl, ChangeKind::Dml, ChangeKind::Dml, ChangeKind::Dml]);
        assert_eq!(
            (all[0].tables[0].table.as_str(), all[0].statement.as_deref()),
            ("x", Some("DROP TABLE x"))
        );
        assert_eq!((all[1].rows, all[1].tables[0].inserted, all[3].rows), (2, 2, 1));
        assert!(all[2].statement_based && all[2].tables[0].at_least && all[2].rows == 0);
        assert!(all[0].to.starts_with("before:") && all[0].to.ends_with(":1"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>, kind: u8, body: Vec<u8>) {
            let _ = told(&bytes);
            let _ = told(&[gtid(1), event(kind, &body)].concat());
            let _ = told(&[gtid(1), event(kind::TRANSACTION_PAYLOAD, &body)].concat());
        }
    }
}
