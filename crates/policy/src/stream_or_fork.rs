//! Decides from which server and position an archiver streams, and whether a timeline forks.

mod archive_health;
mod binlog_reset;
mod semi_sync;

use backstop_config::settings::ArchiveFrom;
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::topology::{InstanceState, Member, Role};

use crate::topology::{current_primary, errant};

pub use archive_health::{
    ArchiveHealthInputs, HEARTBEAT_TIMEOUT_SECONDS, MAX_ARCHIVE_LAG_SECONDS, NEVER_RAN_CODE,
    archive_findings, archive_rpo_seconds,
};
pub use binlog_reset::{BinlogPosition, source_mismatch};
pub use semi_sync::{
    SemiSync, SemiSyncNames, SourceContext, SourceSettings, enables_semi_sync, source_findings,
};

/// The server to stream from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFrom {
    /// Its address.
    pub endpoint: Endpoint,
    /// Its identity.
    pub server_uuid: ServerUuid,
    /// Its role in the shard.
    pub role: Role,
    /// Reason for choosing it.
    pub reason: String,
    /// Reason why its binlog cannot be archived: its GTIDs name transactions that the binlog lacks.
    pub unfit: Option<String>,
    /// Reason why its data may differ from the primary's without an error.
    pub doubtful: Option<String>,
}

impl StreamFrom {
    /// Refuses a server whose binlog cannot be archived.
    ///
    /// # Errors
    /// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) if its binlog cannot be
    /// archived.
    pub fn refuse_unfit(&self) -> Result<()> {
        let Some(why) = &self.unfit else { return Ok(()) };
        Err(Error::refused(format!("cannot archive from {}: {why}", self.endpoint)).hint(
            "correct the server's option file, restart it, and rebuild the data that it filtered; or archive another member (archive.from)",
        ))
    }
}

/// Chooses the server to stream from. Among replicas, `current` is kept as long as it is fit.
///
/// # Errors
/// Returns the errors of [`current_primary`] if the primary is wanted. Returns
/// [`Kind::Refused`](backstop_types::error::ErrorKind::Refused), with the transactions, if the only fit
/// replicas have transactions that the primary lacks. Returns a failure if no replica is fit yet.
pub fn stream_from(from: ArchiveFrom, members: &[Member], current: Option<ServerUuid>) -> Result<StreamFrom> {
    if from == ArchiveFrom::Primary {
        let (endpoint, state) = current_primary(members)?;
        return Ok(chosen(endpoint, state, Role::Primary, "it is the shard's primary"));
    }
    let primary = current_primary(members).ok();
    let mut diverged = None;
    let mut fit: Vec<(&Member, &InstanceState)> = Vec::new();
    for (member, state) in members.iter().filter_map(|m| Some((m, m.state.as_ref().ok()?))) {
        let is_primary = primary.is_some_and(|(_, p)| p.server_uuid == state.server_uuid);
        if is_primary || (from == ArchiveFrom::Candidate && !member.candidate) {
            continue;
        }
        match primary.map(|(_, primary)| errant(&state.gtid_executed, primary)) {
            Some(extra) if !extra.is_empty() => diverged = Some((member.endpoint.clone(), extra)),
            _ => fit.push((member, state)),
        }
    }
    let role_of = |member: &Member| if member.candidate { Role::Candidate } else { Role::Replica };
    fit.sort_by_key(|(member, state)| {
        let unfit = state.fidelity.unfit_to_archive(role_of(member)).is_some();
        (unfit, Some(state.server_uuid) != current, member.candidate)
    });
    match (fit.first(), diverged) {
        (Some((member, state)), _) => {
            Ok(chosen(&member.endpoint, state, role_of(member), "it is a replica, as archive.from requires"))
        }
        (None, Some((endpoint, extra))) => Err(Error::refused(format!(
            "cannot archive from {endpoint}: it has transactions that the primary lacks: {extra}"
        ))
        .hint("rebuild it, or set archive.from = \"primary\"")),
        (None, None) => Err(Error::failed("cannot find a replica to archive from: none answered")
            .hint("set archive.from = \"primary\", or repair the replicas")),
    }
}

fn chosen(endpoint: &Endpoint, state: &InstanceState, role: Role, reason: &str) -> StreamFrom {
    let doubtful = if role == Role::Primary { None } else { state.fidelity.doubtful() };
    StreamFrom {
        endpoint: endpoint.clone(),
        server_uuid: state.server_uuid,
        role,
        reason: reason.to_owned(),
        unfit: state.fidelity.unfit_to_archive(role),
        doubtful,
    }
}

/// History that a server reports when the archiver requests its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceHistory {
    /// All that is or was in its binlog: `@@GLOBAL.gtid_executed` and `@@GLOBAL.gtid_owned`. A
    /// transaction that waits for an acknowledgement is in the binlog and may be in the archive,
    /// but is not executed yet.
    pub reached: GtidSet,
    /// The purged transactions: the server can no longer send them.
    pub purged: GtidSet,
}

/// Contents of the archive's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineEnd<'a> {
    /// Every transaction in it, including those from before its beginning. `None`: the archive is
    /// empty.
    pub held: Option<&'a GtidSet>,
    /// The GTIDs that the server had executed at the end of its last segment in this timeline.
    pub of_server: Option<&'a GtidSet>,
}

/// Position from which to resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartPosition {
    /// Directly after the last segment of the same server's file.
    AfterLastSegment,
    /// With a file of the server; the request excludes these transactions, which are archived.
    ExceptGtids(GtidSet),
}

/// Decision on a server's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamDecision {
    /// The timeline continues.
    Continue {
        /// The position.
        from: StartPosition,
        /// Transactions that are not archived and that this server can no longer send.
        gap: GtidSet,
    },
    /// The server lacks transactions of the timeline: a new timeline begins.
    Fork {
        /// The position.
        from: StartPosition,
        /// The archived transactions that it lacks.
        lacks: GtidSet,
        /// Transactions that are not archived and that this server can no longer send.
        gap: GtidSet,
        /// True if the server lacks transactions that it executed itself: it has lost the end of
        /// its own binlog and may reuse these numbers at any moment.
        at_once: bool,
    },
    /// The server lacks these transactions of the primary; replication will deliver them.
    Behind(GtidSet),
}

/// Compares a server's history with the archive's timeline. `primary`: the transactions executed by
/// the shard's primary, if the server is not the primary.
///
/// # Errors
/// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) if the server has no transaction in
/// common with the archive.
pub fn resume_or_fork(
    from: &StreamFrom,
    history: &SourceHistory,
    timeline: TimelineEnd<'_>,
    primary: Option<&GtidSet>,
) -> Result<StreamDecision> {
    let Some(held) = timeline.held else {
        return Ok(StreamDecision::Continue {
            from: StartPosition::ExceptGtids(history.purged.clone()),
            gap: GtidSet::new(),
        });
    };
    let gap = history.purged.subtract(held);
    let lacks = held.subtract(&history.reached);
    if lacks.is_empty() {
        let behind = gap.is_empty() && timeline.of_server.is_some_and(|set| history.purged.is_subset_of(set));
        let from = if behind {
            StartPosition::AfterLastSegment
        } else {
            StartPosition::ExceptGtids(held.union(&history.purged))
        };
        return Ok(StreamDecision::Continue { from, gap });
    }
    let common = held.intersect(&history.reached);
    // A server of the shard without any transaction has lost its data or was set up again.
    let known = !held.of_uuid(from.server_uuid).is_empty();
    if common.is_empty() && !known {
        return Err(Error::refused(format!(
            "cannot archive from {}: it shares no transaction with the archive, which holds {held}; it has {}",
            from.endpoint, history.reached
        ))
        .hint("correct the shard's topology, or give it another name: the server is not a member"));
    }
    if from.role != Role::Primary {
        let made_good = primary.is_none_or(|primary| !lacks.intersect(primary).is_empty());
        if made_good {
            return Ok(StreamDecision::Behind(lacks));
        }
    }
    let at_once = !lacks.of_uuid(from.server_uuid).is_empty();
    Ok(StreamDecision::Fork {
        from: StartPosition::ExceptGtids(common.union(&history.purged)),
        lacks,
        gap,
        at_once,
    })
}

/// Parses `@@GLOBAL.gtid_owned`, which names the owner of each transaction (`UUID:5#12:7#13`), to a
/// set.
pub fn parse_gtid_owned(text: &str) -> Option<GtidSet> {
    let mut plain = String::with_capacity(text.len());
    let mut skipping = false;
    for c in text.chars() {
        skipping = match c {
            '#' => true,
            c if c.is_ascii_digit() => skipping,
            _ => false,
        };
        if !skipping {
            plain.push(c);
        }
    }
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
    const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    fn from(uuid: &str, role: Role) -> StreamFrom {
        StreamFrom {
            endpoint: Endpoint::new("db1", 3306),
            server_uuid: uuid.parse().unwrap(),
            role,
            reason: String::new(),
            unfit: None,
            doubtful: None,
        }
    }

    fn decided(
        uuid: &str,
        reached: &str,
        purged: &str,
        held: &str,
        of_server: Option<&str>,
    ) -> StreamDecision {
        let history = SourceHistory { reached: set(reached), purged: set(purged) };
        let (held, of_server) = (set(held), of_server.map(set));
        let timeline = TimelineEnd { held: Some(&held), of_server: of_server.as_ref() };
        resume_or_fork(&from(uuid, Role::Primary), &history, timeline, None).unwrap()
    }

    #[test]
    fn first_stream_begins_with_the_oldest_binlog() {
        let history = SourceHistory { reached: set("A:1-9"), purged: set("A:1-3") };
        let timeline = TimelineEnd { held: None, of_server: None };
        let decision = resume_or_fork(&from(A, Role::Primary), &history, timeline, None).unwrap();
        assert_eq!(
            decision,
            StreamDecision::Continue { from: StartPosition::ExceptGtids(set("A:1-3")), gap: GtidSet::new() }
        );
    }

    #[test]
    fn same_server_resumes_after_its_last_segment() {
        let decision = decided(A, "A:1-9", "A:1-3", "A:1-7", Some("A:1-7"));
        assert_eq!(
            decision,
            StreamDecision::Continue { from: StartPosition::AfterLastSegment, gap: GtidSet::new() }
        );
    }

    #[test]
    fn promoted_server_with_all_transactions_continues_timeline() {
        let decision = decided(B, "A:1-7,B:1-2", "", "A:1-7", None);
        assert_eq!(
            decision,
            StreamDecision::Continue { from: StartPosition::ExceptGtids(set("A:1-7")), gap: GtidSet::new() }
        );
    }

    #[test]
    fn transactions_purged_before_archiving_are_a_gap() {
        let decision = decided(A, "A:1-9", "A:1-8", "A:1-5", Some("A:1-5"));
        let expected =
            StreamDecision::Continue { from: StartPosition::ExceptGtids(set("A:1-8")), gap: set("A:6-8") };
        assert_eq!(decision, expected);
    }

    #[test]
    fn promoted_server_lacking_transactions_starts_a_fork() {
        let decision = decided(B, "A:1-5,B:1-2", "A:1-2", "A:1-7", None);
        let from = StartPosition::ExceptGtids(set("A:1-5"));
        let expected =
            StreamDecision::Fork { from, lacks: set("A:6-7"), gap: GtidSet::new(), at_once: false };
        assert_eq!(decision, expected);
        let own = decided(A, "A:1-5", "", "A:1-7", Some("A:1-7"));
        assert!(matches!(own, StreamDecision::Fork { at_once: true, .. }), "{own:?}");
    }

    #[test]
    fn lagging_replica_is_awaited_and_foreign_server_refused() {
        let history = SourceHistory { reached: set("A:1-5"), purged: GtidSet::new() };
        let held = set("A:1-7");
        let timeline = TimelineEnd { held: Some(&held), of_server: None };
        let decision =
            resume_or_fork(&from(B, Role::Replica), &history, timeline, Some(&set("A:1-9"))).unwrap();
        assert_eq!(decision, StreamDecision::Behind(set("A:6-7")));
        let history = SourceHistory { reached: set("B:1-5"), purged: GtidSet::new() };
        let error = resume_or_fork(&from(B, Role::Primary), &history, timeline, None).unwrap_err();
        assert_eq!(error.kind, backstop_types::error::ErrorKind::Refused);
        assert!(error.message.contains(A) && error.message.contains(B), "{error}");
    }

    #[test]
    fn reset_server_of_the_shard_starts_a_fork() {
        let decision = decided(A, "", "", "A:1-7", Some("A:1-7"));
        let from = StartPosition::ExceptGtids(GtidSet::new());
        let expected = StreamDecision::Fork { from, lacks: set("A:1-7"), gap: GtidSet::new(), at_once: true };
        assert_eq!(decision, expected);
    }

    #[test]
    fn gtid_owned_is_parsed() {
        assert_eq!(parse_gtid_owned(""), Some(GtidSet::new()));
        assert_eq!(parse_gtid_owned(&format!("{A}:5#12:7#13,\n{B}:1#9")), Some(set("A:5:7,B:1")));
        assert_eq!(parse_gtid_owned(&format!("{A}:blue:5#12")), Some(set("A:blue:5")));
        assert_eq!(parse_gtid_owned("nonsense"), None);
    }
}
