//! Reports of `key`.

use std::path::PathBuf;

use serde::Serialize;

/// `key … --json`, for what changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// The change.
    pub change: KeyChange,
    /// Id of the key; `None` if it is not known to the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The file that was read or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Id of the key that no longer opens the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
}

/// A change of `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyChange {
    /// A new key was written into a file.
    Generated,
    /// The key opens the repository, too.
    Added,
    /// The key opens the repository instead of the configured one.
    Rotated,
    /// A key no longer opens the repository.
    Removed,
    /// The wrapped data key was written into a file.
    Exported,
    /// A wrapped data key was stored again.
    Imported,
}

/// `key check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyCheckReport {
    /// True if no copy is lost.
    pub ok: bool,
    /// The keys that open the repository, by id.
    pub keys: Vec<KeyState>,
}

/// A key that opens the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyState {
    /// Its id.
    pub id: String,
    /// True for the configured key. Only its copies were decrypted.
    pub configured: bool,
    /// Number of intact copies, of two.
    pub copies: usize,
    /// The lost copies, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}
