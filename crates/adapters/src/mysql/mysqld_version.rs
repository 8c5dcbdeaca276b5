//! The server program: finds it, and checks its version and options.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::server::ServerVersion;
use tokio::process::Command;

use super::error_log;
use crate::command;

/// Directories that are searched for server programs besides PATH.
const SERVER_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"];

/// Limit for a check of options: the server loads the libraries that they name.
const OPTION_CHECK_TIMEOUT: Duration = Duration::from_secs(60);

const OTHER_PROGRAM_HINT: &str = "set mysql.server to the mysqld of a MySQL server, 8.0 or newer";

/// Returns the version that a server program prints.
///
/// # Errors
/// Returns an error if the program cannot be run, [`ErrorKind::Usage`] if its output is not a
/// version, and [`ErrorKind::Refused`] for MariaDB and versions below 8.0.
pub async fn version_of(program: &Path) -> Result<ServerVersion> {
    let doing = format!("cannot get the version of {}", program.display());
    let text =
        command::output(Command::new(program).arg("--version"), Duration::from_secs(20), &doing).await?;
    let version = parse_version(&text)
        .context(ErrorKind::Usage, &doing)
        .map_err(|error| error.hint(OTHER_PROGRAM_HINT))?;
    if version.is_mariadb() {
        return Err(unsupported(program, &format!("it is MariaDB {version}")));
    }
    if !version.at_least(8, 0, 0) {
        return Err(unsupported(program, &format!("it is version {version}")));
    }
    Ok(version)
}

/// Makes a server program check lines of an option file. The built-in `secure_file_priv` may name a
/// folder that does not exist, so the check sets it first.
///
/// # Errors
/// Returns an error if the program cannot be run, and [`ErrorKind::Usage`] with the fault.
pub async fn check_options(program: &Path, options: &str) -> Result<()> {
    let doing = "cannot check the options of the recovered server";
    let mut file = tempfile::NamedTempFile::new().failed(doing)?;
    file.write_all(format!("[mysqld]\nsecure_file_priv = NULL\n{options}").as_bytes()).failed(doing)?;
    let mut command = Command::new(program);
    command.arg(format!("--defaults-file={}", file.path().display())).arg("--validate-config");
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
    command.stdin(Stdio::null()).current_dir("/").kill_on_drop(true);
    let done = tokio::time::timeout(OPTION_CHECK_TIMEOUT, command.output()).await;
    let late = || Error::failed(format!("{doing}: timed out after {OPTION_CHECK_TIMEOUT:?}"));
    let output = done.map_err(|_| late())?.failed(doing)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let mut errors = error_log::errors(&text);
    if errors.is_empty() {
        errors.push(format!("{}: {}", output.status, command::last_lines(&text, 5)));
    }
    let hint = "correct the option in `--defaults-file` or `--server-option`; write an option of a plugin that the data loads as \
                `loose_NAME`";
    Err(Error::new(ErrorKind::Usage, format!("{doing}: {}", errors.join("; "))).hint(hint))
}

/// Finds a program by the value of `mysql.server`: a path, or a name that is searched on PATH and
/// then in the directories of server programs.
pub fn locate(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| PathBuf::from(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).collect::<Vec<_>>();
    folders.extend(SERVER_FOLDERS.map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn unsupported(program: &Path, why: &str) -> Error {
    Error::refused(format!("cannot use {}: {why}, and Backstop needs MySQL 8.0 or newer", program.display()))
        .hint(OTHER_PROGRAM_HINT)
}

/// Parses the version in `mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`.
fn parse_version(text: &str) -> Result<ServerVersion, String> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "Ver").skip(1);
    // Another program may print its licence.
    let first = || text.trim().lines().next().unwrap_or_default().chars().take(80).collect::<String>();
    let word = words.next().ok_or_else(|| format!("it is not a MySQL server: it printed `{}`", first()))?;
    word.parse().map_err(|error: backstop_types::ids::InvalidName| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn program(dir: &Path, prints: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("mysqld");
        std::fs::write(&path, format!("#!/bin/sh\necho '{prints}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn only_mysql_8_and_newer_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let good = program(dir.path(), "/usr/sbin/mysqld  Ver 26.7.0-2 for Linux on x86_64 ((Debian))");
        assert!(version_of(&good).await.unwrap().at_least(26, 7, 0));
        for bad in ["mysqld  Ver 5.7.44 for Linux", "mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian"] {
            let refused = version_of(&program(dir.path(), bad)).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Refused, "{bad}");
        }
        let other = version_of(&program(dir.path(), "hello\nand a licence")).await.unwrap_err();
        assert!(other.kind == ErrorKind::Usage && other.message.ends_with("it printed `hello`"), "{other}");
        assert!(locate("no-such-server").is_none() && locate("sh").is_some());
    }
}
