//! Network namespaces of tests: permission, remains of killed tests, and the commands on them.

use std::process::Command;

use backstop_host::process_start_ticks;

use crate::volume::{run_command, skip};

/// Returns true for root, the only user who can create one; prints a message on standard error
/// otherwise.
pub(crate) fn can_make() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("a separate network needs root");
    }
    root
}

/// Returns the namespaces of dead tests: their names are `prefix` and the process id in six hex
/// digits.
pub(crate) fn left_behind(prefix: &str) -> Vec<String> {
    let gone = |name: &String| {
        let pid = name.strip_prefix(prefix).and_then(|rest| u32::from_str_radix(rest.get(..6)?, 16).ok());
        pid.is_some_and(|pid| process_start_ticks(pid).is_none())
    };
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(gone).collect()
}

/// Returns the beginning of a command that runs in a namespace.
pub(crate) fn prefix(namespace: &str) -> Vec<String> {
    ["ip", "netns", "exec", namespace].map(str::to_owned).to_vec()
}

/// Runs `ip`, which must succeed.
pub(crate) fn ip(words: &[&str]) {
    run_command(Command::new("ip").args(words));
}
