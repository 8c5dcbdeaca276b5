//! Plugins that a server has loaded.

use serde::{Deserialize, Serialize};

/// Types that are never loaded again: they act before an operator has checked the server, or need
/// data that no backup holds.
const NEVER_LOADED_TYPES: [&str; 3] = ["DAEMON", "GROUP REPLICATION", "KEYRING"];

/// An active plugin that is not built into the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its library, a file in the server's `plugin_dir`.
    pub library: String,
    /// Its type: `AUTHENTICATION`, `AUDIT`, `FTPARSER`, …
    #[serde(rename = "type")]
    pub kind: String,
}

impl Plugin {
    /// True if a recovered server loads it again. The record comes from a store that others may
    /// write to. So a library must be a plain file name: the server finds it in its own
    /// `plugin_dir` or not at all.
    pub fn is_loaded_again(&self) -> bool {
        let stem = self.library.strip_suffix(".so").unwrap_or_default();
        is_word(&self.name) && is_word(stem) && !NEVER_LOADED_TYPES.contains(&self.kind.as_str())
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}
