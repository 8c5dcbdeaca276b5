//! Rows events: the table and the number of rows, without the rows' contents.
//!
//! Body of Table_map (type 19): table id u48 · flags u16 · length u8 and schema, 0 · length u8 and
//! table, 0 · number of columns, packed · a type for each · metadata, length packed · more that is
//! not parsed here.
//!
//! Body of rows events (types 23 to 25, 30 to 32, 39): table id u48 · flags u16 · from type 30 on:
//! length u16 of the extra data including these two bytes, and the extra data · number of columns,
//! packed · bitmap of the columns in the row (for updates a second one, of the new row) · rows. A
//! row: bitmap of NULLs over its columns · values. Type 39 puts before each new row: options,
//! packed; if bit 0 is set, a bitmap over the JSON columns.

use crate::codec::FieldReader;

/// A table as described for the events after its table map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMap {
    pub(crate) id: u64,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Type and metadata of each column.
    columns: Vec<(u8, u16)>,
}

/// Action of a rows event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowsAction {
    Insert,
    Update,
    Delete,
}

mod column {
    pub(super) const JSON: u8 = 245;
    pub(super) const STRING: u8 = 254;
    pub(super) const ENUM: u8 = 247;
    pub(super) const SET: u8 = 248;
}

/// Returns the action of a rows event of this type; `None`: it is not a rows event.
pub(crate) fn rows_action(kind: u8) -> Option<RowsAction> {
    match kind {
        23 | 30 => Some(RowsAction::Insert),
        24 | 31 | PARTIAL_UPDATE_ROWS => Some(RowsAction::Update),
        25 | 32 => Some(RowsAction::Delete),
        _ => None,
    }
}

const PARTIAL_UPDATE_ROWS: u8 = 39;

/// Returns the id of the table of a rows event.
pub(crate) fn table_id(body: &[u8]) -> Option<u64> {
    u48(&mut FieldReader::new(body))
}

fn u48(fields: &mut FieldReader<'_>) -> Option<u64> {
    let bytes = fields.bytes(6)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

impl TableMap {
    /// Parses a Table_map.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(body);
        let id = u48(&mut fields)?;
        fields.bytes(2)?;
        let schema = name(&mut fields)?;
        let table = name(&mut fields)?;
        let count = usize::try_from(fields.packed()?).ok()?;
        let types = fields.bytes(count)?;
        let metadata = fields.packed_bytes()?;
        let mut metadata = FieldReader::new(metadata);
        let column = |kind: &u8| Some((*kind, metadata_of(*kind, &mut metadata)?));
        let columns = types.iter().map(column).collect::<Option<Vec<_>>>()?;
        Some(Self { id, schema, name: table, columns })
    }

    /// Returns the number of rows in a rows event; `None` if its form is unknown.
    pub(crate) fn count(&self, kind: u8, body: &[u8]) -> Option<u64> {
        let mut fields = FieldReader::new(body);
        fields.bytes(8)?;
        if kind >= 30 {
            let extra = usize::from(u16_of(&mut fields)?);
            fields.bytes(extra.checked_sub(2)?)?;
        }
        let columns = usize::try_from(fields.packed()?).ok()?;
        if columns != self.columns.len() {
            return None;
        }
        let before = self.present(fields.bytes(columns.div_ceil(8))?);
        let is_update = rows_action(kind)? == RowsAction::Update;
        let after = if is_update { Some(self.present(fields.bytes(columns.div_ceil(8))?)) } else { None };
        let mut rows = 0;
        while !fields.is_empty() {
            skip_row(&mut fields, &before)?;
            if let Some(after) = &after {
                if kind == PARTIAL_UPDATE_ROWS && fields.packed()? & 1 != 0 {
                    let json = self.columns.iter().filter(|(kind, _)| *kind == column::JSON).count();
                    fields.bytes(json.div_ceil(8))?;
                }
                skip_row(&mut fields, after)?;
            }
            rows += 1;
            if before.is_empty() && after.as_ref().is_none_or(Vec::is_empty) {
                return None; // rows without columns have no length
            }
        }
        Some(rows)
    }

    fn present(&self, bitmap: &[u8]) -> Vec<(u8, u16)> {
        let is_set = |index: usize| bitmap.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        self.columns
            .iter()
            .enumerate()
            .filter(|(index, _)| is_set(*index))
            .map(|(_, column)| *column)
            .collect()
    }
}

fn name(fields: &mut FieldReader<'_>) -> Option<String> {
    let length = usize::from(fields.u8()?);
    let name = String::from_utf8_lossy(fields.bytes(length)?).into_owned();
    (fields.u8()? == 0).then_some(name)
}

fn u16_of(fields: &mut FieldReader<'_>) -> Option<u16> {
    fields.u16()
}

/// Reads the metadata of a column: one byte, two or none. For strings the first byte is the actual
/// type, for decimals the precision.
fn metadata_of(kind: u8, fields: &mut FieldReader<'_>) -> Option<u16> {
    match kind {
        // FLOAT, DOUBLE, TIMESTAMP2, DATETIME2, TIME2, VECTOR, JSON, the BLOBs, GEOMETRY.
        4 | 5 | 17..=19 | 242 | column::JSON | 249..=252 | 255 => Some(u16::from(fields.u8()?)),
        // VARCHAR, VAR_STRING, BIT; of NEWDECIMAL, ENUM, SET and STRING the first byte is the high one.
        15 | 16 | 253 => fields.u16(),
        246 | column::ENUM | column::SET | column::STRING => {
            Some(u16::from_be_bytes([fields.u8()?, fields.u8()?]))
        }
        _ => Some(0),
    }
}

fn skip_row(fields: &mut FieldReader<'_>, columns: &[(u8, u16)]) -> Option<()> {
    let nulls = fields.bytes(columns.len().div_ceil(8))?;
    for (index, (kind, metadata)) in columns.iter().enumerate() {
        if nulls.get(index / 8)? >> (index % 8) & 1 == 0 {
            let length = length_of(*kind, *metadata, fields)?;
            fields.bytes(length)?;
        }
    }
    Some(())
}

/// Returns the length of a value in bytes, after its length prefix if it has one.
fn length_of(kind: u8, metadata: u16, fields: &mut FieldReader<'_>) -> Option<usize> {
    let fraction = usize::from(metadata).div_ceil(2);
    Some(match kind {
        6 => 0,                // NULL
        1 | 13 => 1,           // TINY, YEAR
        2 => 2,                // SHORT
        9 | 10 | 11 | 14 => 3, // INT24, DATE, TIME, NEWDATE
        3 | 4 | 7 => 4,        // LONG, FLOAT, TIMESTAMP
        5 | 8 | 12 => 8,       // DOUBLE, LONGLONG, DATETIME
        17 => 4 + fraction,    // TIMESTAMP2
        18 => 5 + fraction,    // DATETIME2
        19 => 3 + fraction,    // TIME2
        15 | 253 => prefixed(if metadata > 255 { 2 } else { 1 }, fields)?,
        16 => usize::from(metadata >> 8) + usize::from(metadata & 0xff != 0),
        246 => decimal(usize::from(metadata >> 8), usize::from(metadata & 0xff))?,
        242 | column::JSON | 249..=252 | 255 => prefixed(usize::from(metadata), fields)?,
        column::ENUM | column::SET => usize::from(metadata & 0xff),
        column::STRING => string(metadata, fields)?,
        _ => return None,
    })
}

/// Reads a length prefix of this many bytes.
fn prefixed(size: usize, fields: &mut FieldReader<'_>) -> Option<usize> {
    if !(1..=4).contains(&size) {
        return None;
    }
    Some(fields.bytes(size)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// Returns the length of a CHAR, ENUM or SET. A CHAR longer than 255 bytes keeps two bits of its
/// length, inverted, in the byte of the type.
fn string(metadata: u16, fields: &mut FieldReader<'_>) -> Option<usize> {
    let (kind, length) = ((metadata >> 8) as u8, metadata & 0xff);
    if kind == column::ENUM || kind == column::SET {
        return Some(usize::from(length));
    }
    let longest = if kind & 0x30 == 0x30 { length } else { length | (u16::from(!kind & 0x30) << 4) };
    prefixed(if longest > 255 { 2 } else { 1 }, fields)
}

/// Returns the length of a DECIMAL. Nine digits take four bytes; the remaining digits before and
/// after the point take as many as they need.
fn decimal(precision: usize, scale: usize) -> Option<usize> {
    const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let whole = precision.checked_sub(scale)?;
    let digits = |count: usize| count / 9 * 4 + BYTES[count % 9];
    Some(digits(whole) + digits(scale))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn map() -> Vec<u8> {
        // s.t (INT, VARCHAR(50), DECIMAL(10,2), CHAR(10))
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b's', 0, 1, b't', 0, 4, 3, 15, 246, 254];
        body.extend([6, 50, 0, 10, 2, 254, 10, 0]);
        body
    }

    #[test]
    fn rows_are_counted() {
        let table = TableMap::parse(&map()).unwrap();
        assert_eq!((table.id, table.schema.as_str(), table.name.as_str()), (7, "s", "t"));
        let row = [0b0100, 1, 0, 0, 0, 2, b'h', b'i', 3, b'a', b'b', b'c'];
        let mut insert = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0xff];
        insert.extend(row);
        insert.extend([0b1110, 9, 0, 0, 0]);
        assert_eq!(table.count(30, &insert), Some(2));
        assert_eq!(table.count(30, &insert[..insert.len() - 1]), None, "a torn row");
        let mut update = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0xff, 0xff];
        update.extend(row);
        update.extend(row);
        assert_eq!(table.count(31, &update), Some(1));
    }

    proptest! {
        #[test]
        fn arbitrary_rows_are_counted_or_refused(bytes: Vec<u8>, kind in 20_u8..45, rest: Vec<u8>) {
            let _ = TableMap::parse(&bytes);
            let table = TableMap::parse(&map()).unwrap();
            let _ = table.count(kind, &bytes);
            let head = [7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0xff];
            let _ = table.count(30, &[&head[..], &rest].concat());
        }

        #[test]
        fn damaged_maps_are_read_or_refused(at in 0_usize..26, byte: u8, rest: Vec<u8>) {
            let mut map = map();
            let at = at % map.len();
            map[at] = byte;
            if let Some(table) = TableMap::parse(&map) {
                for kind in [23, 24, 31, 32, 39] {
                    let _ = table.count(kind, &rest);
                }
            }
        }
    }
}
