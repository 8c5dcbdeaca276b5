//! MySQL's binlog format, as far as Backstop reads it.

mod crc;
mod file;
mod gtid;
mod serialized;

pub use file::{BinlogFile, InvalidBinlog, Transaction};
