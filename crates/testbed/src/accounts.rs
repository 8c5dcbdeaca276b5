//! Accounts of a shard: exactly those of `docs/grants.md`.

use backstop_config::credentials::Credentials;
use backstop_types::error::{Error, Result};
use backstop_types::login::ReplicationAccount;

/// Page with the statements for the accounts.
const GRANTS_PAGE: &str = include_str!("../../../docs/grants.md");

/// Returns the statements of one block of the page, with the password filled in.
///
/// # Errors
/// Returns an error if the page has no such block.
pub fn statements(block: &str, password: &str) -> Result<Vec<String>> {
    let mark = format!("<!-- grants: {block} -->\n```sql\n");
    let missing = || Error::failed(format!("cannot create accounts: docs/grants.md has no block {block}"));
    let from = GRANTS_PAGE.find(&mark).ok_or_else(missing)? + mark.len();
    let text = GRANTS_PAGE[from..].split("```").next().unwrap_or_default();
    let statements = text.split(";\n").map(str::trim).filter(|sql| !sql.is_empty());
    Ok(statements.map(|sql| sql.replace('…', password)).collect())
}

/// Returns a password that no two shards share.
pub fn password() -> String {
    format!("pw-{:016x}", crate::unique_number()) // MySQL takes 32 characters at most for replication
}

/// Returns the credentials for the page's accounts.
pub fn credentials(password: &str) -> Credentials {
    let replication =
        ReplicationAccount { user: "backstop_replication".into(), password: password.to_owned().into() };
    Credentials {
        user: "backstop".into(),
        password: password.to_owned().into(),
        replication: Some(replication),
        tls: None,
        orchestrator: backstop_config::credentials::OrchestratorAccess::default(),
    }
}
