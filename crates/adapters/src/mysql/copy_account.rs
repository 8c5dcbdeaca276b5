//! Account that reads a copy of a shard: it logs in over the socket, with an option file for
//! clients.

use std::path::Path;

use backstop_types::error::Result;
use secrecy::{ExposeSecret, SecretString};

use super::connection::Connection;
use super::secret_file;

/// Name of the account. It begins as all account names of Backstop do.
const COPY_ACCOUNT: &str = "'backstop_copy'@'localhost'";
/// Privileges that mysqldump needs, and no others: it reads tables, views, triggers, events and
/// routines.
const COPY_PRIVILEGES: &str = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, PROCESS";

/// Creates the account in a session that writes no binary log, and the option file for clients,
/// mode 0600. If the account exists already, it is created again with another password.
///
/// # Errors
/// Returns an error if the server refuses a statement or the file cannot be written.
pub(super) async fn create_copy_account(
    session: &mut Connection,
    client_file: &Path,
    socket: &Path,
) -> Result<()> {
    let password = secret_file::random_password();
    session.run(&format!("DROP USER IF EXISTS {COPY_ACCOUNT}")).await?;
    let create = format!(
        "CREATE USER {COPY_ACCOUNT} IDENTIFIED {} PASSWORD EXPIRE NEVER",
        secret_file::identified(&password).expose_secret()
    );
    session.run_secret("create the account that reads the copy", &create.into()).await?;
    session.run(&format!("GRANT {COPY_PRIVILEGES} ON *.* TO {COPY_ACCOUNT}")).await?;
    secret_file::write(client_file, &client_options(&password, socket))
}

/// Returns the options of `mysql` and `mysqldump`. A dump of a copy must not contain the copy's
/// GTIDs.
fn client_options(password: &SecretString, socket: &Path) -> SecretString {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    format!(
        "[client]\nuser = backstop_copy\npassword = {}\nsocket = {}\n\n[mysqldump]\nsingle-transaction\nset-gtid-purged = OFF\n",
        quoted(password.expose_secret()),
        quoted(&socket.display().to_string())
    )
    .into()
}
