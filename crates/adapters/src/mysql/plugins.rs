//! Plugins and components of a server, and the accounts that depend on them.

use std::path::Path;

use backstop_policy::plugins::LoadedPlugins;
use backstop_types::plugins::Plugin;

use super::connection::Connection;
use super::error::SqlError;

const LIBRARY_PLUGINS: &str = "SELECT PLUGIN_NAME, PLUGIN_LIBRARY, PLUGIN_TYPE FROM information_schema.PLUGINS \
     WHERE PLUGIN_STATUS = 'ACTIVE' AND PLUGIN_LIBRARY IS NOT NULL ORDER BY PLUGIN_NAME, PLUGIN_TYPE";

const ACTIVE_PLUGINS: &str =
    "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'";

/// Selects the accounts that can log in, with their plugins. Roles are locked accounts.
const ACCOUNT_PLUGINS: &str = "SELECT CONCAT(User, '@', Host), plugin FROM mysql.user \
     WHERE account_locked = 'N' ORDER BY User, Host";

/// Reads the active plugins that come from libraries. Needs no privilege.
///
/// # Errors
/// See [`super::error::SqlCause`].
pub async fn library_plugins(session: &mut Connection) -> Result<Vec<Plugin>, SqlError> {
    let rows: Vec<(String, String, String)> = session.query(LIBRARY_PLUGINS).await?;
    Ok(rows.into_iter().map(|(name, library, kind)| Plugin { name, library, kind }).collect())
}

/// Reads the plugins and components that a recovered server of this host has loaded, and those that
/// it needs.
pub(super) async fn loaded_plugins(session: &mut Connection) -> Result<LoadedPlugins, SqlError> {
    let folder: String = session.one("SELECT @@GLOBAL.plugin_dir").await?;
    let mut components: Vec<String> =
        session.query("SELECT component_urn FROM mysql.component ORDER BY component_urn").await?;
    components.retain(|urn| !has_library(Path::new(&folder), urn));
    let name = |urn: String| urn.strip_prefix("file://").map_or(urn.clone(), str::to_owned);
    Ok(LoadedPlugins {
        plugins: session.query(ACTIVE_PLUGINS).await?,
        components_missing: components.into_iter().map(name).collect(),
        accounts: session.query(ACCOUNT_PLUGINS).await?,
    })
}

/// Returns true if a component's library exists. A component that is not a file counts as present.
fn has_library(folder: &Path, urn: &str) -> bool {
    let Some(name) = urn.strip_prefix("file://") else { return true };
    !name.contains('/') && folder.join(format!("{name}.so")).is_file()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn component_needs_a_library_in_the_plugin_directory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("component_a.so"), "").unwrap();
        let has = |urn| has_library(folder.path(), urn);
        assert!(has("file://component_a") && has("other://x"));
        assert!(!has("file://component_b") && !has("file://../component_a"));
    }
}
