//! Keywords of each MySQL version: 8.0 began with master and slave, and later versions accept only
//! source and replica. Also quotes names and strings.

use backstop_types::server::ServerVersion;

/// Vocabulary of one server version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `REPLICA` (8.0.22) instead of `SLAVE` in statements and in the columns of their results.
    replica: bool,
    /// `CHANGE REPLICATION SOURCE TO` (8.0.23) instead of `CHANGE MASTER TO`.
    change_source: bool,
    /// Variables and plugins named after source and replica too (8.0.26).
    variables: bool,
    /// `BINARY LOG STATUS` (8.2) instead of `MASTER STATUS`.
    binary_log_status: bool,
}

/// A plugin and its library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginLibrary {
    /// Name, as `INSTALL PLUGIN` takes it.
    pub name: &'static str,
    /// File name of the library.
    pub library: &'static str,
}

impl Dialect {
    /// Returns the vocabulary of this version.
    pub fn of(version: &ServerVersion) -> Self {
        Self {
            replica: version.at_least(8, 0, 22),
            change_source: version.at_least(8, 0, 23),
            variables: version.at_least(8, 0, 26),
            binary_log_status: version.at_least(8, 2, 0),
        }
    }

    /// Returns the statement that shows the state of replication.
    pub fn show_replica_status(self) -> &'static str {
        if self.replica { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" }
    }

    /// Returns the statement that shows the connected replicas: server id, host, port, the source's
    /// id, UUID.
    pub fn show_replicas(self) -> &'static str {
        if self.replica { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" }
    }

    /// Returns the name of a column of [`Dialect::show_replica_status`], given in the new
    /// vocabulary: `Source_Host`.
    pub fn column(self, name: &str) -> String {
        if self.replica {
            name.to_owned()
        } else {
            name.replace("Source", "Master").replace("Replica", "Slave").replace("Get_Source", "Get_master")
        }
    }

    /// Returns the statement that starts the receiver and the appliers.
    pub fn start_replica(self) -> &'static str {
        if self.replica { "START REPLICA" } else { "START SLAVE" }
    }

    /// Returns the statement that stops the receiver and the appliers.
    pub fn stop_replica(self) -> &'static str {
        if self.replica { "STOP REPLICA" } else { "STOP SLAVE" }
    }

    /// Returns the statement that starts only the appliers.
    pub fn start_appliers(self) -> &'static str {
        if self.replica { "START REPLICA SQL_THREAD" } else { "START SLAVE SQL_THREAD" }
    }

    /// Returns the statement that stops only the appliers.
    pub fn stop_appliers(self) -> &'static str {
        if self.replica { "STOP REPLICA SQL_THREAD" } else { "STOP SLAVE SQL_THREAD" }
    }

    /// Returns the statement that starts only the receiver.
    pub fn start_receiver(self) -> &'static str {
        if self.replica { "START REPLICA IO_THREAD" } else { "START SLAVE IO_THREAD" }
    }

    /// Returns the statement that stops only the receiver.
    pub fn stop_receiver(self) -> &'static str {
        if self.replica { "STOP REPLICA IO_THREAD" } else { "STOP SLAVE IO_THREAD" }
    }

    /// Returns the statement that removes all replication channels.
    pub fn reset_replica_all(self) -> &'static str {
        if self.replica { "RESET REPLICA ALL" } else { "RESET SLAVE ALL" }
    }

    /// Returns the statement that empties the binary logs and `gtid_executed`.
    pub fn reset_binary_logs(self) -> &'static str {
        if self.binary_log_status { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" }
    }

    /// Returns the statement that shows the current binary log and the position in it.
    pub fn show_binary_log_status(self) -> &'static str {
        if self.binary_log_status { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
    }

    /// Returns `CHANGE REPLICATION SOURCE TO` with these options, named in the new vocabulary and
    /// already quoted.
    pub fn change_source(self, options: &[(&str, String)]) -> String {
        let name = |name: &str| match self.change_source {
            true => name.to_owned(),
            false => name.replace("SOURCE", "MASTER"),
        };
        let verb = if self.change_source { "CHANGE REPLICATION SOURCE TO" } else { "CHANGE MASTER TO" };
        let options: Vec<_> =
            options.iter().map(|(option, value)| format!("{}={value}", name(option))).collect();
        format!("{verb} {}", options.join(", "))
    }

    /// Returns a system variable's name in this version, given in the new vocabulary.
    pub fn variable(self, name: &str) -> String {
        if self.variables {
            name.to_owned()
        } else {
            name.replace("source", "master").replace("replica", "slave")
        }
    }

    /// Returns the plugin that acknowledges as a semi-synchronous replica.
    pub fn semi_sync_replica(self) -> PluginLibrary {
        match self.variables {
            true => PluginLibrary { name: "rpl_semi_sync_replica", library: "semisync_replica.so" },
            false => PluginLibrary { name: "rpl_semi_sync_slave", library: "semisync_slave.so" },
        }
    }

    /// Returns the plugin that waits for semi-synchronous replicas.
    pub fn semi_sync_source(self) -> PluginLibrary {
        match self.variables {
            true => PluginLibrary { name: "rpl_semi_sync_source", library: "semisync_source.so" },
            false => PluginLibrary { name: "rpl_semi_sync_master", library: "semisync_master.so" },
        }
    }
}

/// Quotes a name with backticks.
pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes a string, for sessions whose `sql_mode` lets a backslash escape, as in all of Backstop's
/// sessions.
pub fn quote_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(version: &str) -> Dialect {
        Dialect::of(&version.parse().unwrap())
    }

    #[test]
    fn statements_follow_the_server_version() {
        let (first, middle, last) = (of("8.0.20"), of("8.0.36"), of("26.7.0"));
        assert_eq!(first.show_replica_status(), "SHOW SLAVE STATUS");
        assert_eq!(first.column("Seconds_Behind_Source"), "Seconds_Behind_Master");
        assert_eq!(first.column("Replica_IO_Running"), "Slave_IO_Running");
        assert_eq!(middle.show_replica_status(), "SHOW REPLICA STATUS");
        assert_eq!(
            (middle.reset_binary_logs(), last.reset_binary_logs()),
            ("RESET MASTER", "RESET BINARY LOGS AND GTIDS")
        );
        assert_eq!(first.variable("rpl_semi_sync_replica_enabled"), "rpl_semi_sync_slave_enabled");
        assert_eq!(last.variable("rpl_semi_sync_replica_enabled"), "rpl_semi_sync_replica_enabled");
    }

    #[test]
    fn change_of_source_follows_the_server_version() {
        let options = [("SOURCE_HOST", quote_text("db'1")), ("GET_SOURCE_PUBLIC_KEY", "1".to_owned())];
        assert_eq!(
            of("8.0.20").change_source(&options),
            "CHANGE MASTER TO MASTER_HOST='db''1', GET_MASTER_PUBLIC_KEY=1"
        );
        assert!(of("9.7.4").change_source(&options).starts_with("CHANGE REPLICATION SOURCE TO SOURCE_HOST="));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote_name("a`b"), "`a``b`");
        assert_eq!(quote_text(r"a'\b"), r"'a''\\b'");
    }
}
