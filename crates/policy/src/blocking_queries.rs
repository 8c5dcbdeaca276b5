//! Decides from a server's running queries whether to request a lock now.

use std::fmt;
use std::time::Duration;

/// Sessions that could make a lock wait, or wait behind it, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Every session that runs something (including appliers and system threads), without idle
    /// ones.
    pub queries: Vec<RunningQuery>,
}

/// One session that runs something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningQuery {
    /// `PROCESSLIST_ID`: the argument of KILL.
    pub id: u64,
    /// Account name, without the host.
    pub user: String,
    /// `PROCESSLIST_COMMAND`: `Query`, `Connect`, `Binlog Dump GTID`, …
    pub command: String,
    /// `PROCESSLIST_STATE`, empty if NULL.
    pub state: String,
    /// The first characters of the statement, empty if NULL. May hold users' data: shown to an
    /// operator, never stored.
    pub info: String,
    /// Duration so far.
    pub running: Duration,
    /// Kind of its work.
    pub kind: QueryKind,
}

/// Kind of a session's work, by its effect on a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Reads or writes of an ordinary user.
    Ordinary,
    /// CREATE, ALTER, DROP, TRUNCATE, RENAME, OPTIMIZE, … of tables.
    Ddl,
    /// A FLUSH TABLES or other global lock that is waiting or held by another session.
    GlobalLock,
    /// A replication applier (coordinator or worker).
    Applier,
    /// A replication dump thread: it sends binary logs to a replica.
    Dump,
    /// A thread of the server itself (`system user`, event scheduler, daemon).
    System,
    /// A session of Backstop.
    Own,
}

/// Decision whether to request a lock now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockDecision {
    /// No session blocks the lock.
    Go,
    /// The lock would wait, and writes would wait behind it.
    Wait {
        /// The blocking session, in words.
        because: String,
    },
}

/// Decides whether to request a global read lock now. The lock waits for running statements, and
/// everything else waits for the lock. So a query that has run for `long` already, DDL, and another
/// global lock must end first. Appliers need not: they commit and continue, as far as visible from
/// outside.
pub fn decide_lock(activity: &Activity, long: Duration) -> LockDecision {
    match blocking_queries(activity, long).first() {
        Some(query) => LockDecision::Wait { because: query.to_string() },
        None => LockDecision::Go,
    }
}

/// Returns every session that a global read lock would have to wait for, longest first.
pub fn blocking_queries(activity: &Activity, long: Duration) -> Vec<&RunningQuery> {
    let stands = |query: &&RunningQuery| match query.kind {
        QueryKind::Ordinary => query.running >= long || waits_for_flush(query),
        QueryKind::Ddl | QueryKind::GlobalLock => true,
        QueryKind::Applier | QueryKind::Dump | QueryKind::System | QueryKind::Own => false,
    };
    let mut all: Vec<&RunningQuery> = activity.queries.iter().filter(stands).collect();
    all.sort_by_key(|query| (std::cmp::Reverse(query.running), query.id));
    all
}

/// Returns the sessions that wait for tables to be flushed or for a global lock. After a lock that
/// timed out, they show that writes still queue.
pub fn queries_waiting_for_lock(activity: &Activity) -> Vec<&RunningQuery> {
    activity.queries.iter().filter(|query| query.kind != QueryKind::Own && waits_for_flush(query)).collect()
}

/// True if the query may be killed to let a lock through, when the configuration allows it. Only
/// statements of ordinary users may: never appliers, DDL, other locks, dump threads, the server's
/// own threads or accounts.
pub fn killable(query: &RunningQuery) -> bool {
    let statement = ["Query", "Execute", "Fetch"].contains(&query.command.as_str());
    query.kind == QueryKind::Ordinary && statement && !is_server_account(&query.user)
}

fn waits_for_flush(query: &RunningQuery) -> bool {
    ["Waiting for table flush", "Waiting for global read lock", "Waiting for commit lock"]
        .contains(&query.state.as_str())
}

fn is_server_account(user: &str) -> bool {
    let reserved = ["system user", "event_scheduler", "mysql.session", "mysql.sys", "mysql.infoschema"];
    user.is_empty() || reserved.contains(&user)
}

impl QueryKind {
    /// Classifies a row of the process list. The caller recognizes appliers by their threads
    /// (`performance_schema.replication_applier_status_by_worker`, `…_by_coordinator`) and
    /// Backstop's sessions by their ids; this function classifies the others.
    pub fn of(user: &str, command: &str, info: &str) -> Self {
        if command.starts_with("Binlog Dump") {
            return Self::Dump;
        }
        if is_server_account(user) || command == "Daemon" {
            return Self::System;
        }
        let words = first_words(info);
        let two = (words[0].as_str(), words[1].as_str());
        match two {
            ("FLUSH", "TABLES" | "TABLE") | ("FLUSH", "LOCAL" | "NO_WRITE_TO_BINLOG") => Self::GlobalLock,
            ("LOCK", "INSTANCE") => Self::GlobalLock,
            ("CREATE" | "ALTER" | "DROP" | "TRUNCATE" | "RENAME" | "OPTIMIZE" | "REPAIR", _) => Self::Ddl,
            ("ANALYZE", "TABLE" | "TABLES" | "LOCAL" | "NO_WRITE_TO_BINLOG") => Self::Ddl,
            _ => Self::Ordinary,
        }
    }
}

/// Returns the first two words in upper case, without leading comments.
fn first_words(info: &str) -> [String; 2] {
    let mut rest = info.trim_start();
    while let Some((_, after)) = rest.strip_prefix("/*").and_then(|comment| comment.split_once("*/")) {
        rest = after.trim_start();
    }
    let mut words = rest.split_whitespace().map(str::to_ascii_uppercase);
    [words.next().unwrap_or_default(), words.next().unwrap_or_default()]
}

/// Names the session and its work, without the statement's text, which may hold users' data.
impl fmt::Display for RunningQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            QueryKind::Ordinary if waits_for_flush(self) => "a statement that waits for a lock",
            QueryKind::Ordinary => "a statement",
            QueryKind::Ddl => "DDL",
            QueryKind::GlobalLock => "another global lock",
            QueryKind::Applier => "a replication applier",
            QueryKind::Dump => "a replication dump",
            QueryKind::System => "a thread of the server",
            QueryKind::Own => "Backstop itself",
        };
        let (id, user) = (self.id, &self.user);
        write!(f, "session {id} of `{user}` has been running {what} for {} s", self.running.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(1);

    fn query(id: u64, kind: QueryKind, seconds: u64) -> RunningQuery {
        RunningQuery {
            id,
            user: "app".into(),
            command: "Query".into(),
            state: "executing".into(),
            info: "SELECT secret FROM t".into(),
            running: Duration::from_secs(seconds),
            kind,
        }
    }

    #[test]
    fn lock_waits_for_long_queries_ddl_and_global_locks() {
        let verdict = |queries: Vec<RunningQuery>| decide_lock(&Activity { queries }, LIMIT);
        assert_eq!(verdict(vec![]), LockDecision::Go);
        let harmless = [QueryKind::Applier, QueryKind::Dump, QueryKind::System, QueryKind::Own];
        assert_eq!(verdict(harmless.map(|kind| query(1, kind, 900)).into()), LockDecision::Go);
        assert_eq!(verdict(vec![query(1, QueryKind::Ordinary, 0)]), LockDecision::Go);
        let busy = vec![query(1, QueryKind::Ordinary, 5), query(2, QueryKind::Ordinary, 8)];
        let because = "session 2 of `app` has been running a statement for 8 s".to_owned();
        assert_eq!(verdict(busy), LockDecision::Wait { because });
        for kind in [QueryKind::Ddl, QueryKind::GlobalLock] {
            assert_ne!(verdict(vec![query(1, kind, 0)]), LockDecision::Go);
        }
        let mut piled = query(1, QueryKind::Ordinary, 0);
        piled.state = "Waiting for table flush".into();
        let activity = Activity { queries: vec![piled] };
        assert_ne!(decide_lock(&activity, LIMIT), LockDecision::Go);
        assert_eq!(queries_waiting_for_lock(&activity).len(), 1);
    }

    #[test]
    fn queries_are_classified_by_user_command_and_text() {
        for (user, command, info, kind) in [
            ("app", "Query", "select 1", QueryKind::Ordinary),
            ("app", "Query", "/* hi */ /*x*/ alter table t add c int", QueryKind::Ddl),
            ("app", "Query", "FLUSH TABLES WITH READ LOCK", QueryKind::GlobalLock),
            ("app", "Query", "flush local tables", QueryKind::GlobalLock),
            ("app", "Query", "LOCK INSTANCE FOR BACKUP", QueryKind::GlobalLock),
            ("app", "Query", "FLUSH STATUS", QueryKind::Ordinary),
            ("repl", "Binlog Dump GTID", "", QueryKind::Dump),
            ("event_scheduler", "Daemon", "", QueryKind::System),
            ("system user", "Connect", "", QueryKind::System),
            ("app", "Query", "/* unfinished", QueryKind::Ordinary),
        ] {
            assert_eq!(QueryKind::of(user, command, info), kind, "{user} {command} {info}");
        }
    }

    fn any_query() -> impl Strategy<Value = RunningQuery> {
        let kinds = [
            QueryKind::Ordinary,
            QueryKind::Ddl,
            QueryKind::GlobalLock,
            QueryKind::Applier,
            QueryKind::Dump,
            QueryKind::System,
            QueryKind::Own,
        ];
        let users = ["app", "system user", "event_scheduler", "mysql.session", ""];
        let commands = ["Query", "Execute", "Connect", "Binlog Dump", "Daemon", "Killed"];
        let kind = prop::sample::select(kinds.to_vec());
        let (user, command) = (prop::sample::select(users.to_vec()), prop::sample::select(commands.to_vec()));
        (kind, user, command, 0u64..100).prop_map(|(kind, user, command, seconds)| RunningQuery {
            user: user.into(),
            command: command.into(),
            ..query(seconds, kind, seconds)
        })
    }

    proptest! {
        #[test]
        fn only_ordinary_statements_of_users_are_killed(query in any_query()) {
            let may = killable(&query);
            let ordinary = query.kind == QueryKind::Ordinary;
            prop_assert_eq!(may, ordinary && query.user == "app" && ["Query", "Execute"].contains(&query.command.as_str()));
        }

        #[test]
        fn lock_is_granted_only_without_blockers(queries in proptest::collection::vec(any_query(), 0..8)) {
            let activity = Activity { queries };
            let clear = blocking_queries(&activity, LIMIT).is_empty();
            prop_assert_eq!(decide_lock(&activity, LIMIT) == LockDecision::Go, clear);
            prop_assert!(activity.queries.iter().all(|q| q.running < LIMIT || q.kind != QueryKind::Ordinary) || !clear);
        }
    }
}
