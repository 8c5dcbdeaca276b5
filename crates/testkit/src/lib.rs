//! Real mysqld shards and fault injection for the tests.
