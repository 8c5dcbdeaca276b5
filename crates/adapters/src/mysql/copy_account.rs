//! The account that a copy of a shard is read with: it logs in over the socket, with an option file for clients.

use std::path::Path;

use backstop_model::error::Result;
use secrecy::{ExposeSecret, SecretString};

use super::connection::Connection;
use super::secret_file;

/// The account. Its name begins as all of Backstop's do.
const COPY_ACCOUNT: &str = "'backstop_copy'@'localhost'";
/// What mysqldump asks for, and not more: it reads tables, views, triggers, events and routines.
const COPY_PRIVILEGES: &str = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, PROCESS";

/// Makes the account in a session that writes no binary log, and the option file for clients, mode 0600. Once more with another password
/// if it is there already.
///
/// # Errors
/// When the server refuses it, or the file cannot be written.
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
    session.run_secret("make the account to read the copy with", &create.into()).await?;
    session.run(&format!("GRANT {COPY_PRIVILEGES} ON *.* TO {COPY_ACCOUNT}")).await?;
    secret_file::write(client_file, &client_options(&password, socket))
}

/// Options of `mysql` and `mysqldump`. What is copied out of a copy must not bring the copy's GTIDs along.
fn client_options(password: &SecretString, socket: &Path) -> SecretString {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    format!(
        "[client]\nuser = backstop_copy\npassword = {}\nsocket = {}\n\n[mysqldump]\nsingle-transaction\nset-gtid-purged = OFF\n",
        quoted(password.expose_secret()),
        quoted(&socket.display().to_string())
    )
    .into()
}
