//! The accounts of a test's shard: exactly those of `docs/grants.md`.

use backstop_model::credentials::{Credentials, ReplicationAccount};

/// The page that the accounts are made from.
const PAGE: &str = include_str!("../../../docs/grants.md");

/// What every test's account may do.
pub const ALL_BACKUPS: [&str; 5] = ["base", "clone", "lock-free", "lock", "replication"];

/// The statements of one block of the page, with the password filled in.
pub fn statements(block: &str, password: &str) -> Vec<String> {
    let mark = format!("<!-- grants: {block} -->\n```sql\n");
    let from = PAGE.find(&mark).unwrap_or_else(|| panic!("docs/grants.md has no block {block}")) + mark.len();
    let text = PAGE[from..].split("```").next().unwrap_or_default();
    text.split(";\n")
        .map(str::trim)
        .filter(|sql| !sql.is_empty())
        .map(|sql| sql.replace('…', password))
        .collect()
}

/// A password that no test shares with another.
pub fn password() -> String {
    format!("pw-{:016x}", unique()) // MySQL takes 32 characters at most for replication
}

/// The credentials that log in to the page's accounts.
pub fn credentials(password: &str) -> Credentials {
    let replication =
        ReplicationAccount { user: "backstop_replication".into(), password: password.to_owned().into() };
    Credentials {
        user: "backstop".into(),
        password: password.to_owned().into(),
        replication: Some(replication),
        tls: None,
    }
}

/// A number that differs between calls, processes and runs.
pub fn unique() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
