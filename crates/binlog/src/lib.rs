//! MySQL's binlog: its files, the stream that a source sends its replicas, segments cut from that stream, and a server
//! that replicas read segments from.

mod acknowledge;
mod changes;
mod check;
mod commits;
mod crc;
mod cut;
mod dump;
mod event;
mod fields;
mod file;
mod folder;
mod gtid;
mod limited;
mod login;
mod packet;
mod password;
mod rows;
mod running;
mod secure;
mod segment;
mod send;
mod serialized;
mod server;
mod session;
mod set;
mod statement;
mod stream;
mod timeline;
mod wire;

pub use acknowledge::Acknowledger;
pub use changes::changes;
pub use check::PieceCheck;
pub use commits::commits;
pub use cut::{Cutter, Step};
pub use dump::{Acknowledge, AtEnd, Dump};
pub use file::{BinlogFile, InvalidBinlog, Transaction};
pub use folder::Folder;
pub use limited::Limited;
pub use password::PasswordCheck;
pub use segment::{Segment, SegmentSink, SegmentSource};
pub use server::BinlogServer;
pub use session::{Connect, Row, Session};
pub use stream::EventStream;
