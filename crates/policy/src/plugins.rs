//! Plugins that a server loads from libraries: those of the source, those that a recovered server
//! loads again, and those missing on the recovery host.
//!
//! Plugins loaded by an option file are in no variable and no table, so each backup records them.
//! Plugins installed by a statement (`mysql.plugin`, `mysql.component`) and the accounts are in the
//! data itself.

use backstop_types::finding::Finding;
use backstop_types::plugins::Plugin;

/// Number of names in one sentence.
const MAX_NAMED_PLUGINS: usize = 8;

/// The plugins that a recovered server has loaded, and those that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedPlugins {
    /// The names of its active plugins.
    pub plugins: Vec<String>,
    /// The installed components (`mysql.component`) whose library is not in its `plugin_dir`.
    pub components_missing: Vec<String>,
    /// Its accounts, `user@host`, each with its authentication plugin. Excludes locked accounts.
    pub accounts: Vec<(String, String)>,
}

/// Libraries that come with every server. Recoveries and backups load them where needed.
const BUNDLED_LIBRARIES: [&str; 5] = [
    "mysql_clone.so",
    "semisync_master.so",
    "semisync_replica.so",
    "semisync_slave.so",
    "semisync_source.so",
];

/// Returns the lines of an option file that load plugins again. A server that lacks a library logs
/// this and starts without it.
pub fn plugin_options(recorded: &[Plugin]) -> String {
    let again = recorded.iter().filter(|plugin| plugin.is_loaded_again());
    again.map(|plugin| format!("loose_plugin_load_add = {}={}\n", plugin.name, plugin.library)).collect()
}

/// Returns findings about plugins, components and accounts of the source that the recovered server
/// lacks.
pub fn plugin_findings(recorded: &[Plugin], loaded: &LoadedPlugins) -> Vec<Finding> {
    let active = |name: &str| loaded.plugins.iter().any(|plugin| plugin.eq_ignore_ascii_case(name));
    let mut findings = Vec::new();
    let missing: Vec<String> = recorded
        .iter()
        .filter(|plugin| !active(&plugin.name))
        .map(|plugin| format!("{} ({})", escape_name(&plugin.name), escape_name(&plugin.library)))
        .collect();
    if !missing.is_empty() {
        findings.push(Finding::warning(
            "plugin-missing",
            format!("plugins of the server that was backed up are not active here: {}", told(&missing)),
            "install their libraries into plugin_dir and restart the server; its error log says why a plugin was not loaded",
        ));
    }
    if !loaded.components_missing.is_empty() {
        let names: Vec<String> = loaded.components_missing.iter().map(|name| escape_name(name)).collect();
        findings.push(Finding::warning(
            "component-missing",
            format!("installed components have no library on this host: {}", told(&names)),
            "install their libraries into plugin_dir and restart the server",
        ));
    }
    let locked_out: Vec<String> = loaded
        .accounts
        .iter()
        .filter(|(_, plugin)| !plugin.is_empty() && !active(plugin))
        .map(|(account, plugin)| format!("{} ({})", escape_name(account), escape_name(plugin)))
        .collect();
    if !locked_out.is_empty() {
        findings.push(Finding::warning(
            "accounts-cannot-log-in",
            format!("accounts with an inactive authentication plugin cannot log in: {}", told(&locked_out)),
            "load the plugin (plugin_load_add in the option file), or change the accounts' plugin with ALTER USER",
        ));
    }
    findings
}

/// Names the libraries that a recovery host must have, other than those of every server.
pub fn plugins_needed(plugins: &[Plugin]) -> Option<Finding> {
    let own = plugins.iter().filter(|plugin| !BUNDLED_LIBRARIES.contains(&plugin.library.as_str()));
    let own: Vec<String> = own
        .map(|plugin| format!("{} ({})", escape_name(&plugin.name), escape_name(&plugin.library)))
        .collect();
    if own.is_empty() {
        return None;
    }
    let what = format!("it loads plugins whose libraries the recovery host also needs: {}", told(&own));
    Some(Finding::ok("plugins-needed", what))
}

fn told(names: &[String]) -> String {
    let first: Vec<&str> = names.iter().take(MAX_NAMED_PLUGINS).map(String::as_str).collect();
    let more = names.len().saturating_sub(MAX_NAMED_PLUGINS);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", first.join(", "))
}

/// Escapes control characters in a name: names are data.
fn escape_name(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str, library: &str, kind: &str) -> Plugin {
        Plugin { name: name.into(), library: library.into(), kind: kind.into() }
    }

    #[test]
    fn library_is_loaded_only_by_its_bare_name() {
        let recorded = [
            plugin("auth_socket", "auth_socket.so", "AUTHENTICATION"),
            plugin("x", "../../tmp/x.so", "AUDIT"),
            plugin("x\ninit_file=/tmp/x", "x.so", "AUDIT"),
            plugin("x", "x.so\n", "AUDIT"),
            plugin("x", ".so", "AUDIT"),
            plugin("group_replication", "group_replication.so", "GROUP REPLICATION"),
        ];
        assert_eq!(plugin_options(&recorded), "loose_plugin_load_add = auth_socket=auth_socket.so\n");
    }

    #[test]
    fn missing_plugins_are_named() {
        let recorded = [
            plugin("auth_socket", "auth_socket.so", "AUTHENTICATION"),
            plugin("clone", "mysql_clone.so", "CLONE"),
        ];
        let loaded = LoadedPlugins {
            plugins: vec!["CLONE".into(), "caching_sha2_password".into()],
            components_missing: vec!["component_validate_password".into()],
            accounts: vec![
                ("debian@localhost".into(), "auth_socket".into()),
                ("app@%".into(), "caching_sha2_password".into()),
            ],
        };
        let findings = plugin_findings(&recorded, &loaded);
        let told: Vec<_> =
            findings.iter().map(|finding| (finding.code.as_ref(), finding.what.as_str())).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].0 == "plugin-missing" && told[0].1.ends_with(": auth_socket (auth_socket.so)"));
        assert!(told[1].0 == "component-missing" && told[1].1.contains("component_validate_password"));
        assert!(
            told[2].0 == "accounts-cannot-log-in" && told[2].1.ends_with(": debian@localhost (auth_socket)")
        );
        let all =
            LoadedPlugins { plugins: vec!["auth_socket".into(), "clone".into()], ..LoadedPlugins::default() };
        assert_eq!(plugin_findings(&recorded, &all), []);
        assert!(plugins_needed(&recorded).is_some_and(|finding| !finding.what.contains("clone")));
        assert_eq!(plugins_needed(&recorded[1..]), None);
    }
}
