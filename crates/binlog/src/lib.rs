//! MySQL's binlog format.
