//! Freezing a server for a snapshot: modes, rules and the result.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Mode in which writes were held while position and snapshot were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FreezeMode {
    /// Writes were not held: the snapshot contains its own position (CLONE).
    None,
    /// `LOCK INSTANCE FOR BACKUP` and `log_status`: DDL waits, commits do not.
    LockFree,
    /// `FLUSH LOCAL TABLES WITH READ LOCK`: commits wait.
    Lock,
}

/// The configured kind of freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FreezeSetting {
    /// Lock-free if the server qualifies, else lock.
    Auto,
    /// Only lock-free; refuse if the server does not qualify.
    LockFree,
    /// Always the global read lock.
    Lock,
}

/// Permitted actions on a primary that is the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPrimary {
    /// Lock it, with a warning in the report.
    Lock,
    /// Refuse the backup.
    Refuse,
}

/// The `freeze` table of a shard's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeRules {
    /// The kind of freeze.
    pub mode: FreezeSetting,
    /// Longest wait for a quiet moment and for the lock.
    pub wait: Duration,
    /// Longest duration of the lock.
    pub hold: Duration,
    /// Kills blocking queries (never appliers, DDL or system users).
    pub kill_blockers: bool,
    /// Permitted actions on a primary.
    pub on_primary: OnPrimary,
}

impl Default for FreezeRules {
    fn default() -> Self {
        Self {
            mode: FreezeSetting::Auto,
            wait: Duration::from_secs(5),
            hold: Duration::from_secs(2),
            kill_blockers: false,
            on_primary: OnPrimary::Lock,
        }
    }
}

/// Result of a freeze.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FreezeReport {
    /// Its mode.
    pub mode: FreezeMode,
    /// Time from the grant of the lock to its release, in milliseconds.
    pub held_ms: f64,
    /// Time from the first request to the grant of the lock, in milliseconds.
    pub waited_ms: f64,
}
