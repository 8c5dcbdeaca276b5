//! Copies the contents of a volume, with its server suspended: the result is that of a snapshot of
//! its disk.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use backstop_adapters::mysql::mysqld_process;
use rustix::process::Signal;

const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Copies a folder (a data directory or one above it) or a file, with its server suspended during
/// the copy.
pub fn copy(from: &Path, to: &Path) {
    let server = mysqld_process::server_on(from).or_else(|| mysqld_process::server_on(&from.join("data")));
    if let Some(pid) = server {
        hold_still(pid);
    }
    let copied = Command::new("cp").args(["-a", "--reflink=auto", "--"]).arg(from).arg(to).status();
    if let Some(pid) = server {
        let _ = mysqld_process::signal(pid, Signal::CONT);
    }
    assert!(copied.is_ok_and(|status| status.success()), "copy {} to {}", from.display(), to.display());
}

/// Suspends all threads, each after the system call that it is in.
fn hold_still(pid: u32) {
    mysqld_process::signal(pid, Signal::STOP).expect("hold the server still");
    let begun = Instant::now();
    while !is_still(pid) {
        assert!(begun.elapsed() < STOP_TIMEOUT, "server {pid} is still running");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']));
        state.unwrap_or(true)
    })
}
