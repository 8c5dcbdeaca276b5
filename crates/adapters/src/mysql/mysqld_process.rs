//! mysqld processes on this host: finds the one that runs on a data directory, and checks that one
//! is alive.

#![allow(
    clippy::disallowed_methods,
    reason = "waits for programs and servers of this machine, as their port's implementation"
)]

use std::fs::File;
use std::path::{Path, PathBuf};

use backstop_host::process_start_ticks;
use rustix::process::{Flock, FlockType, Pid, Signal, fcntl_getlk, kill_process};

/// Returns the pid of the server that runs on a data directory, if one does.
///
/// A server holds a lock on its system tablespace while it lives, and the kernel reports the lock's
/// owner, however the program was started. Before the server has the lock, and where the tablespace
/// is elsewhere, the server is recognized by its arguments or by its working directory, which is
/// the data directory.
pub fn server_on(datadir: &Path) -> Option<u32> {
    let datadir = std::fs::canonicalize(datadir).ok()?;
    lock_holder(&datadir.join("ibdata1")).or_else(|| {
        let mut pids = all_pids();
        pids.find(|&pid| is_alive(pid) && is_server_of(pid, &datadir))
    })
}

/// Returns true if the process exists and has not ended (a zombie has).
pub fn is_alive(pid: u32) -> bool {
    process_start_ticks(pid).is_some()
}

/// Returns true if the process is a server and has not ended.
pub fn is_server(pid: u32) -> bool {
    is_alive(pid) && arguments(pid).is_some_and(|words| runs_mysqld(&words))
}

/// Sends a signal. A process that is gone is not an error.
pub fn signal(pid: u32, signal: Signal) -> std::io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn lock_holder(file: &Path) -> Option<u32> {
    let file = File::open(file).ok()?;
    let whole: Flock = FlockType::WriteLock.into();
    let holder = fcntl_getlk(&file, &whole).ok()??.pid?;
    u32::try_from(holder.as_raw_nonzero().get()).ok()
}

fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_server_of(pid: u32, datadir: &Path) -> bool {
    let Some(words) = arguments(pid).filter(|words| runs_mysqld(words)) else { return false };
    let given = words.iter().find_map(|word| word.strip_prefix("--datadir="));
    let named = given.is_some_and(|given| same_folder(Path::new(given), datadir));
    named || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd: PathBuf| cwd == datadir)
}

fn arguments(pid: u32) -> Option<Vec<String>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// Returns true if the command line is mysqld itself, or a loader that runs it.
fn runs_mysqld(words: &[String]) -> bool {
    words.iter().take(8).any(|word| word.ends_with("mysqld"))
}

fn same_folder(given: &Path, datadir: &Path) -> bool {
    given == datadir || std::fs::canonicalize(given).is_ok_and(|given| given == datadir)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn zombie_process_is_not_alive() {
        assert!(is_alive(std::process::id()) && !is_alive(u32::MAX));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let begin = std::time::Instant::now();
        while is_alive(pid) && begin.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert!(!is_alive(pid) && Path::new(&format!("/proc/{pid}")).exists(), "a zombie is not alive");
        child.wait().unwrap();
    }
}
