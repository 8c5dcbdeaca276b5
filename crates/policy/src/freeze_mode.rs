//! Chooses the kind of freeze for a server.

use backstop_types::error::{Error, Result};
use backstop_types::freeze::{FreezeMode, FreezeRules, FreezeSetting, OnPrimary};
use backstop_types::server::ServerVersion;
use backstop_types::topology::Role;

/// The server's properties that decide whether a backup can run without holding its writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// `@@version`.
    pub version: ServerVersion,
    /// User tables that are not InnoDB, as `schema.table (ENGINE)`.
    pub other_tables: Vec<String>,
    /// `@@log_bin`.
    pub log_bin: bool,
    /// `@@sync_binlog`.
    pub sync_binlog: u64,
    /// `@@innodb_flush_log_at_trx_commit`.
    pub flush_log_at_trx_commit: u64,
    /// Data, redo, undo, table space or binary log paths outside the one atomic snapshot, each as
    /// `what path` (`redo log /redo`).
    pub outside: Vec<String>,
}

/// The chosen kind of freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChoice {
    /// The kind.
    pub mode: FreezeMode,
    /// The reason, in words.
    pub reason: String,
}

/// Returns everything that forbids a lock-free snapshot of this server, in words. Empty: none does.
pub fn lock_free_obstacles(facts: &ServerFacts) -> Vec<String> {
    let version =
        (!facts.version.is_supported()).then(|| format!("version {} is below 8.0.17", facts.version));
    let tables = (!facts.other_tables.is_empty())
        .then(|| format!("tables that are not InnoDB: {}", first_few(&facts.other_tables)));
    let binlog = (!facts.log_bin).then(|| "the binary log is off".to_owned());
    let sync = (facts.log_bin && facts.sync_binlog != 1)
        .then(|| format!("sync_binlog is {} instead of 1", facts.sync_binlog));
    let flush = (facts.flush_log_at_trx_commit != 1)
        .then(|| format!("innodb_flush_log_at_trx_commit is {} instead of 1", facts.flush_log_at_trx_commit));
    let outside = (!facts.outside.is_empty())
        .then(|| format!("not in the same snapshot: {}", first_few(&facts.outside)));
    [version, tables, binlog, sync, flush, outside].into_iter().flatten().collect()
}

/// Chooses the kind of freeze for a snapshot that is not consistent by itself.
///
/// # Errors
/// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) if the rules forbid the only correct
/// kind.
pub fn choose_mode(rules: &FreezeRules, obstacles: &[String], role: Role) -> Result<ModeChoice> {
    match rules.mode {
        FreezeSetting::LockFree | FreezeSetting::Auto if obstacles.is_empty() => {
            let reason = "the server qualifies for a snapshot without a lock".to_owned();
            Ok(ModeChoice { mode: FreezeMode::LockFree, reason })
        }
        FreezeSetting::LockFree => {
            let message = format!("cannot freeze without a lock: {}", obstacles.join("; "));
            Err(Error::refused(message)
                .hint("correct the named problems, or set the shard's `freeze.mode` to \"auto\""))
        }
        FreezeSetting::Auto => lock(rules, role, format!("a lock is needed: {}", obstacles.join("; "))),
        FreezeSetting::Lock => lock(rules, role, "the configuration requires the lock".to_owned()),
    }
}

fn lock(rules: &FreezeRules, role: Role, reason: String) -> Result<ModeChoice> {
    if role == Role::Primary && rules.on_primary == OnPrimary::Refuse {
        let message = format!("cannot freeze the primary: {reason}, and `freeze.on_primary` is \"refuse\"");
        return Err(Error::refused(message).hint("back up a replica, or set `freeze.on_primary` to \"lock\""));
    }
    Ok(ModeChoice { mode: FreezeMode::Lock, reason })
}

fn first_few(all: &[String]) -> String {
    const MAX_NAMED_OBSTACLES: usize = 5;
    let more = all.len().saturating_sub(MAX_NAMED_OBSTACLES);
    let shown = all.iter().take(MAX_NAMED_OBSTACLES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts() -> ServerFacts {
        ServerFacts {
            version: "8.4.0".parse().unwrap(),
            other_tables: vec![],
            log_bin: true,
            sync_binlog: 1,
            flush_log_at_trx_commit: 1,
            outside: vec![],
        }
    }

    #[test]
    fn every_obstacle_to_a_lock_free_freeze_is_named() {
        assert!(lock_free_obstacles(&facts()).is_empty());
        let tables: Vec<String> = (0..7).map(|n| format!("a.t{n} (MyISAM)")).collect();
        let bad = ServerFacts {
            version: "8.0.16".parse().unwrap(),
            other_tables: tables,
            log_bin: true,
            sync_binlog: 0,
            flush_log_at_trx_commit: 2,
            outside: vec!["redo log /redo".into()],
        };
        let obstacles = lock_free_obstacles(&bad);
        assert_eq!(obstacles.len(), 5);
        assert!(obstacles[1].ends_with("a.t4 (MyISAM) and 2 more"), "{}", obstacles[1]);
        assert_eq!(
            lock_free_obstacles(&ServerFacts { log_bin: false, ..facts() }),
            ["the binary log is off"]
        );
    }

    #[test]
    fn freeze_mode_follows_the_rules() {
        let rules = |mode, on_primary| FreezeRules { mode, on_primary, ..FreezeRules::default() };
        let some = ["sync_binlog is 0 instead of 1".to_owned()];
        let mode = |wish, obstacles: &[String], role| {
            choose_mode(&rules(wish, OnPrimary::Refuse), obstacles, role).map(|choice| choice.mode)
        };
        assert_eq!(mode(FreezeSetting::Auto, &[], Role::Primary).unwrap(), FreezeMode::LockFree);
        assert_eq!(mode(FreezeSetting::Auto, &some, Role::Candidate).unwrap(), FreezeMode::Lock);
        assert_eq!(mode(FreezeSetting::Lock, &[], Role::Replica).unwrap(), FreezeMode::Lock);
        assert!(
            mode(FreezeSetting::LockFree, &some, Role::Replica).unwrap_err().message.contains("sync_binlog")
        );
        assert!(mode(FreezeSetting::Auto, &some, Role::Primary).unwrap_err().message.contains("on_primary"));
        assert!(mode(FreezeSetting::Lock, &[], Role::Primary).is_err());
        let allowed = choose_mode(&rules(FreezeSetting::Lock, OnPrimary::Lock), &[], Role::Primary).unwrap();
        assert_eq!(allowed.mode, FreezeMode::Lock);
    }
}
