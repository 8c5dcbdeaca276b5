//! Accounts of a test's shard: exactly those of `docs/grants.md`.

pub use backstop_testbed::accounts::{credentials, password};
pub use backstop_testbed::unique_number;

/// Blocks of privileges of every test's account.
pub const ALL_BACKUPS: [&str; 5] = ["base", "clone", "lock-free", "lock", "replication"];

/// Returns the statements of one block of the page, with the password filled in.
pub fn statements(block: &str, password: &str) -> Vec<String> {
    backstop_testbed::accounts::statements(block, password).expect("a block of docs/grants.md")
}
