//! Provides a MySQL server without user action: an installed one, else the distribution's packages
//! in a cache folder. The host's package sources and installed packages stay unchanged.

#![allow(
    clippy::disallowed_methods,
    reason = "waits for programs and servers of this machine, as their port's implementation"
)]

mod apt;
mod unpack;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backstop_engine::ports::Reporter;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::server::ServerVersion;

use super::mysqld_version;

/// Limit for waiting for another process that downloads packages.
const CACHE_LOCK_TIMEOUT: Duration = Duration::from_secs(600);

/// A server program and its client programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqldPrograms {
    /// Program to start. `--defaults-file` may be its first argument.
    pub mysqld: PathBuf,
    /// Folder with `mysql`, `mysqlbinlog`, `mysqldump`, `mysqladmin`, as far as they exist.
    pub tools: PathBuf,
    /// Its version.
    pub version: ServerVersion,
}

/// Returns `$XDG_CACHE_HOME/backstop`, or `~/.cache/backstop`.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] if neither variable is set.
pub fn default_cache_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("backstop"))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                "cannot find a cache directory: neither XDG_CACHE_HOME nor HOME is set",
            )
            .hint("set XDG_CACHE_HOME")
        })
}

/// Finds a server program, or downloads one.
///
/// `configured` is the value of `mysql.server`. A path must be usable as it is. A name is searched
/// on PATH; if it is absent or not a MySQL server, a server from the cache is used, or downloaded
/// into it on Debian and Ubuntu. Two processes may call this at the same time; a killed one leaves
/// nothing that could be taken for a server.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] if the configured path is MariaDB or too old, and
/// [`ErrorKind::Failed`] with the package to install if nothing can be downloaded.
pub async fn find_or_fetch(
    cache_dir: &Path,
    configured: Option<&str>,
    reporter: &dyn Reporter,
) -> Result<MysqldPrograms> {
    let name = configured.unwrap_or("mysqld");
    match find_installed(name).await {
        Ok(Some(found)) => return Ok(found),
        Err(error) if name.contains('/') => return Err(error),
        Ok(None) if name.contains('/') => {
            let missing =
                Error::new(ErrorKind::Usage, format!("cannot find server program {name}: no such file"));
            return Err(missing.hint("correct mysql.server"));
        }
        Ok(None) => {}
        Err(error) => reporter.notice(&format!("{error}; looking for another server")),
    }
    if let Some(cached) = find_cached(cache_dir).await {
        return Ok(cached);
    }
    fetch(cache_dir, reporter).await
}

/// Returns the installed server program of this name, if one exists.
async fn find_installed(name: &str) -> Result<Option<MysqldPrograms>> {
    let Some(mysqld) = mysqld_version::locate(name) else { return Ok(None) };
    let version = mysqld_version::version_of(&mysqld).await?;
    let beside = mysqld.parent().map(Path::to_owned).unwrap_or_default();
    let client = mysqld_version::locate("mysqlbinlog").and_then(|path| path.parent().map(Path::to_owned));
    let tools = if beside.join("mysqlbinlog").is_file() { beside } else { client.unwrap_or(beside) };
    Ok(Some(MysqldPrograms { mysqld, tools, version }))
}

/// Returns the newest server in the cache that runs.
async fn find_cached(cache_dir: &Path) -> Option<MysqldPrograms> {
    let mut found: Option<MysqldPrograms> = None;
    for entry in std::fs::read_dir(cache_dir).ok()?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("mysql-") {
            continue;
        }
        let tools = entry.path().join("bin");
        let mysqld = tools.join("mysqld");
        let Ok(version) = mysqld_version::version_of(&mysqld).await else { continue };
        if found.as_ref().is_none_or(|best| best.version < version) {
            found = Some(MysqldPrograms { mysqld, tools, version });
        }
    }
    found
}

async fn fetch(cache_dir: &Path, reporter: &dyn Reporter) -> Result<MysqldPrograms> {
    let system = apt::AptSystem::detect().ok_or_else(no_packages)?;
    let doing = format!("cannot fetch a MySQL server into {}", cache_dir.display());
    std::fs::create_dir_all(cache_dir).failed(&doing)?;
    let _lock = lock(&cache_dir.join("fetch.lock")).await?;
    if let Some(cached) = find_cached(cache_dir).await {
        return Ok(cached); // another process fetched it meanwhile
    }
    reporter.remark("fetching a MySQL server with the system's package client (about 70 MB)");
    let work = cache_dir.join("fetch");
    let packages = apt::download(&system, &work).await.map_err(|error| error.during(&doing))?;
    let home = cache_dir.join(format!("mysql-{}", packages.version));
    unpack::unpack(&packages, &cache_dir.join("unpack"), &home)
        .await
        .map_err(|error| error.during(&doing))?;
    let _ = std::fs::remove_dir_all(&work);
    let tools = home.join("bin");
    let mysqld = tools.join("mysqld");
    let version = mysqld_version::version_of(&mysqld).await.map_err(|error| error.during(&doing))?;
    reporter.remark(&format!("MySQL {version} is in {}", home.display()));
    Ok(MysqldPrograms { mysqld, tools, version })
}

/// Holds the cache's lock until dropped. Programs that are started while it is held inherit it: if
/// this process is killed, the next one waits until they too have ended, so that no two work in one
/// folder.
async fn lock(path: &Path) -> Result<File> {
    let doing = format!("cannot lock {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path).failed(&doing)?;
    let since = Instant::now();
    while file.try_lock().is_err() {
        if since.elapsed() > CACHE_LOCK_TIMEOUT {
            return Err(Error::failed(format!(
                "{doing}: another process has held the lock for {CACHE_LOCK_TIMEOUT:?}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).failed(&doing)?;
    Ok(file)
}

fn no_packages() -> Error {
    Error::failed(
        "cannot find a MySQL server: there is no mysqld on PATH, and packages are fetched on Debian and Ubuntu only",
    )
    .hint("install MySQL server 8.0 or newer, or set mysql.server to its mysqld")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn lock_is_held_until_started_programs_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).await.unwrap();
        let input = std::process::Stdio::piped();
        let mut program = std::process::Command::new("cat").stdin(input).spawn().unwrap();
        drop(held);
        let other = File::options().write(true).open(&path).unwrap();
        assert!(other.try_lock().is_err(), "the program still runs");
        drop(program.stdin.take());
        program.wait().unwrap();
        // Programs that other tests start at this moment may have inherited the lock too.
        let begin = Instant::now();
        while other.try_lock().is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody holds it any more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
