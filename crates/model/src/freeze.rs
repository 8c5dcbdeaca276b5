//! The freeze: the short window in which position and snapshot are taken together.

mod choose_mode;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use choose_mode::{ModeChoice, ServerFacts, choose_mode, lock_free_obstacles};

/// How writes were held while position and snapshot were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FreezeMode {
    /// Nothing was held: the snapshot knows its own position (CLONE).
    None,
    /// `LOCK INSTANCE FOR BACKUP` and `log_status`: DDL waits, commits do not.
    LockFree,
    /// `FLUSH LOCAL TABLES WITH READ LOCK`: commits wait.
    Lock,
}

/// What the configuration asks for.
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

/// What may be done to a primary that is the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPrimary {
    /// It may be locked, and the report says so loudly.
    Lock,
    /// Refuse instead.
    Refuse,
}

/// The `freeze` table of a shard's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeRules {
    /// Which kind of freeze.
    pub mode: FreezeSetting,
    /// How long to wait for a quiet moment and for the lock.
    pub wait: Duration,
    /// How long the lock may be held at the most.
    pub hold: Duration,
    /// Kill queries that stand in the way (never appliers, DDL or system users).
    pub kill_blockers: bool,
    /// What may be done to a primary.
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

/// How a freeze went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FreezeReport {
    /// Which kind it was.
    pub mode: FreezeMode,
    /// From the lock being granted to its release, in milliseconds.
    pub held_ms: f64,
    /// From first asking to the lock being granted, in milliseconds.
    pub waited_ms: f64,
}
