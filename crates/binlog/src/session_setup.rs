//! First statement of every session on a server. Global settings belong to the server's
//! applications.

/// Sets the session variables that a session inherits from the server and that could change a
/// result, truncate it, or keep a statement from finishing. Every account may set these, and every
/// server since 8.0.17 has them. Variables that need a privilege beyond docs/grants.md are omitted
/// (`sql_require_primary_key`, `default_table_encryption`).
///
/// A statement that was abandoned here must not wait in the server for a year
/// (`lock_wait_timeout`). The server must not disconnect a stream whose reader waits a minute for
/// its disk (`net_write_timeout`).
pub const SESSION_SETUP: &str = "SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci, \
    SESSION sql_mode = '', \
    SESSION autocommit = 1, \
    SESSION completion_type = 'NO_CHAIN', \
    SESSION transaction_isolation = 'REPEATABLE-READ', \
    SESSION transaction_read_only = 0, \
    SESSION time_zone = '+00:00', \
    SESSION lc_messages = 'en_US', \
    SESSION sql_select_limit = 18446744073709551615, \
    SESSION sql_big_selects = 1, \
    SESSION sql_safe_updates = 0, \
    SESSION sql_auto_is_null = 0, \
    SESSION sql_quote_show_create = 1, \
    SESSION foreign_key_checks = 1, \
    SESSION group_concat_max_len = 1048576, \
    SESSION max_execution_time = 0, \
    SESSION lock_wait_timeout = 120, \
    SESSION innodb_lock_wait_timeout = 50, \
    SESSION wait_timeout = 28800, \
    SESSION net_read_timeout = 60, \
    SESSION net_write_timeout = 600";
