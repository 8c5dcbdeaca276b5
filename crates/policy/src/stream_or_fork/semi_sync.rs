//! Checks the settings of the primary that the archive needs to lose nothing.

use std::time::Duration;

use backstop_config::settings::ArchiveSettings;
use backstop_types::finding::Finding;
use backstop_types::ids::Endpoint;

/// Shortest accepted binlog retention: an archiver may be down for a night.
const MIN_BINLOG_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Binlog retention that the fix sets, in seconds.
const FIX_BINLOG_RETENTION_SECONDS: u64 = 3 * 24 * 3600;
/// Shortest accepted timeout, one hour in milliseconds: a shorter one ends the wait in an ordinary
/// outage.
const MIN_SEMI_SYNC_TIMEOUT_MILLIS: u64 = 3_600_000;
/// Longest timeout that MySQL accepts, in milliseconds.
const MAX_SEMI_SYNC_TIMEOUT_MILLIS: u64 = u32::MAX as u64;

/// The settings of a primary on which its archive depends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// The server's address.
    pub endpoint: Endpoint,
    /// Retention of its binlogs; `None`: unlimited.
    pub kept: Option<Duration>,
    /// True if its binlogs are encrypted on disk. Its replication stream is not.
    pub binlog_encryption: bool,
    /// True if it logs rows, not statements, unless a session selects statements.
    pub rows: bool,
    /// Its semi-synchronous replication; `None`: the plugin is not active.
    pub semi_sync: Option<SemiSync>,
    /// Names of the plugin and its variables in its version.
    pub words: SemiSyncNames,
}

/// Semi-synchronous replication of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemiSync {
    /// True if it is configured to wait.
    pub enabled: bool,
    /// True if it waits now.
    pub active: bool,
    /// Longest wait for an acknowledgement, in milliseconds.
    pub timeout_ms: u64,
    /// Number of replicas that must acknowledge.
    pub count: u32,
    /// True if it waits even while fewer replicas are connected.
    pub without_replicas: bool,
    /// True if it waits before other sessions see the commit.
    pub after_sync: bool,
}

/// Names of the plugin and its variables in one version of MySQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SemiSyncNames {
    /// The plugin.
    pub plugin: String,
    /// Its library.
    pub library: String,
    /// `rpl_semi_sync_source_enabled`.
    pub enabled: String,
    /// `rpl_semi_sync_source_timeout`.
    pub timeout: String,
    /// `rpl_semi_sync_source_wait_for_replica_count`.
    pub count: String,
    /// `rpl_semi_sync_source_wait_no_replica`.
    pub without_replicas: String,
    /// `rpl_semi_sync_source_wait_point`.
    pub wait_point: String,
}

/// Conditions outside the primary on which the judgement depends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceContext {
    /// True if the repository is encrypted.
    pub repository_encrypted: bool,
    /// True if the archiver runs: a primary that waits for a stopped archiver accepts no writes.
    pub archiver_running: bool,
    /// Number of other replicas that acknowledge.
    pub other_replicas: u32,
    /// True if the candidate primary acknowledges; `None`: there is no candidate.
    pub candidate_acknowledges: Option<bool>,
    /// True if the candidate primary is read-only: it installs no plugin then.
    pub candidate_read_only: bool,
    /// The candidate primary, if its source plugin for semi-synchronous replication is not loaded.
    pub candidate_cannot_wait: Option<Endpoint>,
}

/// Checks a primary's settings. Each finding has the statements that fix it.
pub fn source_findings(
    settings: &ArchiveSettings,
    source: &SourceSettings,
    around: &SourceContext,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = kept(source).into_iter().collect();
    if source.binlog_encryption && !around.repository_encrypted {
        findings.push(Finding::problem(
            "archive-not-encrypted",
            format!("{} encrypts its binlog, and the repository is not encrypted", source.endpoint),
            "use a repository with encryption_key: the archiver refuses to keep it in plain text",
        ));
    }
    findings.extend(statements(source));
    if settings.semi_sync {
        findings.extend(semi_sync(source, around));
    }
    findings
}

fn kept(source: &SourceSettings) -> Option<Finding> {
    let kept = source.kept.filter(|kept| *kept < MIN_BINLOG_RETENTION)?;
    let finding = Finding::warning(
        "archive-binlogs-kept-briefly",
        format!(
            "{} keeps its binlogs for {}: a longer outage of the archiver leaves a gap",
            source.endpoint,
            backstop_config::duration::format(kept)
        ),
        "keep them for several days",
    );
    let fix = format!("SET PERSIST binlog_expire_logs_seconds = {FIX_BINLOG_RETENTION_SECONDS}");
    Some(finding.fixed_by([fix]).on(&source.endpoint))
}

/// Warns about statement-based logging: many statements change other rows, or produce other values,
/// when they run a second time.
fn statements(source: &SourceSettings) -> Option<Finding> {
    let what = format!(
        "{} writes statements to its binlog: a recovery that repeats them may produce different data",
        source.endpoint
    );
    let finding = Finding::warning(
        "archive-statements",
        what,
        "set binlog_format = ROW; open sessions keep their setting",
    );
    (!source.rows)
        .then(|| finding.fixed_by(["SET PERSIST binlog_format = 'ROW'".to_owned()]).on(&source.endpoint))
}

fn semi_sync(source: &SourceSettings, around: &SourceContext) -> Vec<Finding> {
    let words = &source.words;
    let wanted = 1 + around.other_replicas;
    let mut wrong = Vec::new();
    let mut fix = Vec::new();
    if source.semi_sync.is_none() {
        wrong.push("the plugin is not active".to_owned());
        fix.push(format!("INSTALL PLUGIN {} SONAME '{}'", words.plugin, words.library));
    }
    let now = source.semi_sync;
    let mut check = |right: Option<bool>, what: &str, name: &str, value: String| {
        if right != Some(true) {
            if right.is_some() {
                wrong.push(format!("{name} {what}"));
            }
            fix.push(format!("SET PERSIST {name} = {value}"));
        }
    };
    check(now.map(|s| s.after_sync), "is not AFTER_SYNC", &words.wait_point, "'AFTER_SYNC'".into());
    check(
        now.map(|s| s.timeout_ms >= MIN_SEMI_SYNC_TIMEOUT_MILLIS),
        "is short",
        &words.timeout,
        MAX_SEMI_SYNC_TIMEOUT_MILLIS.to_string(),
    );
    check(now.map(|s| s.without_replicas), "is OFF", &words.without_replicas, "ON".into());
    let counted = format!("is not {wanted}: other replicas could acknowledge in the archiver's place");
    check(now.map(|s| s.count == wanted), &counted, &words.count, wanted.to_string());
    check(now.map(|s| s.enabled), "is OFF", &words.enabled, "ON".into());
    let mut findings = Vec::new();
    if wrong.is_empty() {
        findings.extend(now.map(|now| waiting(source, now)));
    } else {
        findings.push(not_given(source, around, &wrong, fix));
    }
    findings.extend(candidate(around));
    findings.extend(candidate_cannot_wait(words, around));
    findings
}

fn candidate_cannot_wait(words: &SemiSyncNames, around: &SourceContext) -> Option<Finding> {
    let candidate = around.candidate_cannot_wait.as_ref()?;
    let what = format!(
        "the plugin {} is not loaded on the candidate primary {candidate}: after a promotion it does not wait for the archiver, and the archiver ends",
        words.plugin
    );
    let finding = Finding::warning("archive-candidate-plugin", what, "load it now, before a failover");
    let install = format!("INSTALL PLUGIN {} SONAME '{}'", words.plugin, words.library);
    // The last one runs even if the one before fails.
    let fix =
        ["SET GLOBAL read_only = OFF".to_owned(), install, "SET GLOBAL super_read_only = ON".to_owned()];
    let fix = if around.candidate_read_only { &fix[..] } else { &fix[1..2] };
    Some(finding.fixed_by(fix.iter().cloned()).on(candidate))
}

fn not_given(source: &SourceSettings, around: &SourceContext, wrong: &[String], fix: Vec<String>) -> Finding {
    let what = format!(
        "an RPO of 0 is not guaranteed: on {}, {}: transactions that it acknowledges to its clients may be lost with it",
        source.endpoint,
        wrong.join(", ")
    );
    if around.archiver_running {
        let todo = "apply the shown settings; then writes wait while the archiver or the store is down";
        return Finding::problem("archive-semi-sync", what, todo).fixed_by(fix).on(&source.endpoint);
    }
    let todo = "start the archiver first, then run check --fix: a primary that waits for a stopped archiver accepts no writes";
    let waits = source.semi_sync.is_some_and(|semi_sync| semi_sync.enabled);
    // An archiver needs these before it can start. If the primary waits already, a longer timeout
    // would stop writes for longer.
    let harmless = fix.into_iter().filter(|sql| !waits && !enables_semi_sync(sql));
    Finding::problem("archive-semi-sync", what, todo).fixed_by(harmless).on(&source.endpoint)
}

/// Returns true for the statement from which on writes wait for acknowledgement.
pub fn enables_semi_sync(sql: &str) -> bool {
    sql.starts_with("SET PERSIST rpl_semi_sync_") && sql.ends_with("_enabled = ON")
}

fn waiting(source: &SourceSettings, now: SemiSync) -> Finding {
    if now.active {
        let what = format!("{} waits until commits are in the archive", source.endpoint);
        return Finding::ok("archive-semi-sync", what);
    }
    Finding::problem(
        "archive-semi-sync-degraded",
        format!(
            "{} does not wait for acknowledgements: transactions that it commits now may be lost with it",
            source.endpoint
        ),
        "check that the archiver runs and keeps up; the server waits again once the archiver has caught up",
    )
}

fn candidate(around: &SourceContext) -> Option<Finding> {
    if around.candidate_acknowledges != Some(false) {
        return None;
    }
    Some(Finding::warning(
        "archive-candidate",
        "the candidate primary does not acknowledge: after a promotion it may lack acknowledged transactions, which are then \
         in the archive only",
        "enable rpl_semi_sync_replica on it, or let it catch up from the archive before it is promoted",
    ))
}

#[cfg(test)]
mod tests {
    use backstop_config::settings::{ArchiveAck, ArchiveFrom};

    use super::*;

    fn words() -> SemiSyncNames {
        SemiSyncNames {
            plugin: "rpl_semi_sync_source".into(),
            library: "semisync_source.so".into(),
            enabled: "rpl_semi_sync_source_enabled".into(),
            timeout: "rpl_semi_sync_source_timeout".into(),
            count: "rpl_semi_sync_source_wait_for_replica_count".into(),
            without_replicas: "rpl_semi_sync_source_wait_no_replica".into(),
            wait_point: "rpl_semi_sync_source_wait_point".into(),
        }
    }

    fn source(semi_sync: Option<SemiSync>) -> SourceSettings {
        SourceSettings {
            endpoint: Endpoint::new("db1", 3306),
            kept: None,
            binlog_encryption: false,
            rows: true,
            semi_sync,
            words: words(),
        }
    }

    const WORKING: SemiSync = SemiSync {
        enabled: true,
        active: true,
        timeout_ms: MAX_SEMI_SYNC_TIMEOUT_MILLIS,
        count: 1,
        without_replicas: true,
        after_sync: true,
    };
    const SINGLE: SourceContext = SourceContext {
        repository_encrypted: false,
        archiver_running: true,
        other_replicas: 0,
        candidate_acknowledges: None,
        candidate_read_only: false,
        candidate_cannot_wait: None,
    };

    fn judged(source: &SourceSettings, around: SourceContext) -> Vec<(String, Vec<String>)> {
        let settings =
            ArchiveSettings { from: ArchiveFrom::Primary, semi_sync: true, ack: ArchiveAck::Store };
        let findings = source_findings(&settings, source, &around);
        findings.into_iter().map(|finding| (finding.code.into_owned(), finding.fix)).collect()
    }

    #[test]
    fn semi_sync_is_confirmed_or_fixed() {
        assert_eq!(judged(&source(Some(WORKING)), SINGLE), [("archive-semi-sync".to_owned(), vec![])]);
        let nothing = &judged(&source(None), SINGLE)[0].1;
        assert_eq!(nothing.len(), 6, "{nothing:?}");
        assert!(nothing[0].starts_with("INSTALL PLUGIN") && nothing[5].ends_with("enabled = ON"));
        let short = SemiSync { timeout_ms: 10_000, ..WORKING };
        let fix = ["SET PERSIST rpl_semi_sync_source_timeout = 4294967295".to_owned()];
        assert_eq!(judged(&source(Some(short)), SINGLE)[0].1, fix);
        let stopped = SourceContext { archiver_running: false, ..SINGLE };
        assert!(judged(&source(Some(short)), stopped.clone())[0].1.is_empty(), "it would stop writes");
        let prepared = &judged(&source(None), stopped)[0].1;
        assert!(prepared.len() == 5 && !prepared[4].ends_with("enabled = ON"), "{prepared:?}");
        let others = SourceContext { other_replicas: 1, candidate_acknowledges: Some(false), ..SINGLE };
        let found = judged(&source(Some(WORKING)), others);
        assert_eq!(found[0].1, ["SET PERSIST rpl_semi_sync_source_wait_for_replica_count = 2"]);
        assert_eq!(found[1].0, "archive-candidate");
        let bare = SourceContext { candidate_cannot_wait: Some(Endpoint::new("db2", 3306)), ..SINGLE };
        let found = judged(&source(Some(WORKING)), bare.clone());
        assert_eq!(found[1].0, "archive-candidate-plugin");
        assert_eq!(found[1].1, ["INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'"]);
        let found = judged(&source(Some(WORKING)), SourceContext { candidate_read_only: true, ..bare });
        assert_eq!((found[1].1.len(), found[1].1[2].as_str()), (3, "SET GLOBAL super_read_only = ON"));
        let off = SemiSync { active: false, ..WORKING };
        assert_eq!(judged(&source(Some(off)), SINGLE)[0].0, "archive-semi-sync-degraded");
    }

    #[test]
    fn short_retention_and_encrypted_binlog_are_reported() {
        let brief = SourceSettings {
            kept: Some(Duration::from_secs(3600)),
            binlog_encryption: true,
            rows: false,
            ..source(Some(WORKING))
        };
        let found = judged(&brief, SINGLE);
        assert_eq!(found[0].1, ["SET PERSIST binlog_expire_logs_seconds = 259200"]);
        assert_eq!(found[1].0, "archive-not-encrypted");
        assert_eq!(found[2].1, ["SET PERSIST binlog_format = 'ROW'"]);
    }
}
