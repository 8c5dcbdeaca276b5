//! Server processes that use a folder, whatever their state.

use std::path::Path;
use std::time::Duration;

use backstop_adapters::mysql::mysqld_process;
use backstop_engine::ports::Clock;
use backstop_host::SystemClock;
use backstop_types::error::{Error, Result, ResultExt};
use rustix::process::Signal;

/// Time limit for a killed process to disappear, which is immediate unless it waits for its
/// storage.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the pids of all MySQL servers that were started with a file of this folder, including
/// those that are just starting or that initialise a data directory.
pub fn servers_in(dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| mysqld_process::is_alive(*pid) && works_in(*pid, dir)).collect()
}

/// Kills all servers of a folder with SIGKILL, and waits until they are gone.
///
/// # Errors
/// Returns an error if one still runs after 30 s.
pub fn kill_all(dir: &Path) -> Result<()> {
    let clock = SystemClock::new();
    loop {
        let servers = servers_in(dir);
        if servers.is_empty() {
            return Ok(());
        }
        for pid in &servers {
            mysqld_process::signal(*pid, Signal::KILL).failed(format!("cannot kill server {pid}"))?;
        }
        if clock.monotonic() > KILL_TIMEOUT {
            let message = format!("cannot kill the servers in {}: {servers:?} still run", dir.display());
            return Err(Error::failed(message).hint("check the kernel's log: they wait for their storage"));
        }
        pause();
    }
}

/// Kills the server on one data directory, and waits until it is gone.
///
/// # Errors
/// Returns the errors of [`kill_all`].
pub fn kill_on(datadir: &Path) -> Result<()> {
    let clock = SystemClock::new();
    while let Some(pid) = mysqld_process::server_on(datadir) {
        mysqld_process::signal(pid, Signal::KILL).failed(format!("cannot kill server {pid}"))?;
        if clock.monotonic() > KILL_TIMEOUT {
            return Err(Error::failed(format!("cannot kill server {pid}: it still runs")));
        }
        pause();
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "runs while a server is dropped, where nothing can be awaited")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

fn works_in(pid: u32, dir: &Path) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let named = |word: &String| {
        let path = word.split_once('=').map_or(word.as_str(), |(_, path)| path);
        Path::new(path).starts_with(dir)
    };
    words.iter().any(|word| word.ends_with("mysqld")) && words.iter().any(named)
}
