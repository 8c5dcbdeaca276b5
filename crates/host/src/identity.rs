//! Identity of this process, and the state of other processes of the same machine.

use std::fs;

/// Identity of a process: no other process has the same values, not even after a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// Host name, as the kernel knows it. Containers of one machine have different ones.
    pub host: String,
    /// Id of the machine (`/etc/machine-id`), empty if unknown.
    pub machine: String,
    /// Id of the boot (`/proc/sys/kernel/random/boot_id`), empty if unknown.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// Start time of the process, in clock ticks since boot.
    pub started: u64,
}

/// Identity of this process and of other processes on the same machine.
pub trait Identity: Send + Sync {
    /// Returns the identity of this process.
    fn this_process(&self) -> ProcessIdentity;
    /// Returns the start time of a process in clock ticks since boot; `None` if there is no such
    /// process, or it has ended.
    fn start_ticks(&self, pid: u32) -> Option<u64>;
}

/// Processes of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemIdentity;

impl Identity for SystemIdentity {
    fn this_process(&self) -> ProcessIdentity {
        let pid = std::process::id();
        ProcessIdentity {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            machine: first_line("/etc/machine-id"),
            boot: first_line("/proc/sys/kernel/random/boot_id"),
            pid,
            started: process_start_ticks(pid).unwrap_or(0),
        }
    }

    fn start_ticks(&self, pid: u32) -> Option<u64> {
        process_start_ticks(pid)
    }
}

fn first_line(file: &str) -> String {
    fs::read_to_string(file).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Returns the start time of a process in clock ticks since boot (`/proc/PID/stat`, field 22);
/// `None` if there is no such process, or it has ended and its parent has not collected it (in
/// containers possibly no process does). Source: proc_pid_stat(5).
pub fn process_start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may contain any character; numbers follow the last
    // parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn process_that_ended_is_dead_before_its_parent_collects_it() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while process_start_ticks(child.id()).is_some() {
            assert!(Instant::now() < deadline, "it counts as alive");
            std::thread::yield_now();
        }
        assert!(fs::exists(format!("/proc/{}", child.id())).unwrap(), "no process has collected it");
        child.wait().unwrap();
        assert!(process_start_ticks(std::process::id()).is_some());
        assert_eq!(process_start_ticks(u32::MAX), None);
    }
}
