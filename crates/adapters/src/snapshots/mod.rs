//! Images of an instance's data, taken on its own host.

mod binlog_tail;
pub mod btrfs;
pub mod cleanup;
pub mod clone;
mod clone_recovery;
mod disk_space;
pub mod donor;
#[cfg(test)]
mod frozen;
pub mod select_provider;
mod snapshot_dir;
mod subvolume;
pub mod work_dir;

use std::path::PathBuf;
use std::sync::Arc;

use backstop_engine::ports::MysqldControl;
use backstop_types::error::{Error, Result};
use backstop_types::finding::{Finding, Severity};
use backstop_types::ids::Endpoint;

use crate::snapshot_target::SnapshotTarget;

/// An instance on this host.
pub type SnapshotSource = SnapshotTarget<LocalPlace>;

/// Place of a copy of an instance on this host.
#[derive(Clone)]
pub struct LocalPlace {
    /// Folder for local artefacts; an absolute path. Created if it does not exist.
    pub work_dir: PathBuf,
    /// Starts and stops a copy of the instance.
    pub servers: Arc<dyn MysqldControl>,
}

/// Refuses if any finding is a problem, with all of them in one message.
fn refuse_problems(endpoint: &Endpoint, findings: &[Finding]) -> Result<()> {
    let problems: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = problems.iter().map(|finding| finding.what.as_str()).collect();
    let todo: Vec<_> = problems.iter().filter_map(|finding| finding.todo.as_deref()).collect();
    let message = format!("cannot take a snapshot of {endpoint}: {}", what.join("; "));
    Err(Error::refused(message).hint(todo.join("; ")))
}

/// Returns true if a program of this name is on PATH.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
