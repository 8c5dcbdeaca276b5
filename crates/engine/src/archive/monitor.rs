//! Monitor beside a stream: the source's own position, the members, the semi-sync status.

use std::time::Duration;

use backstop_binlog::Session;
use backstop_config::settings::ArchiveAck;
use backstop_policy::stream_or_fork::{BinlogPosition, StreamFrom, stream_from};
use backstop_policy::topology::current_primary;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::topology::{Member, Role};
use chrono::{DateTime, Utc};

use super::archiver::{Archiver, Shared};
use super::binlog_source::ChosenSource;
use super::queue::AckPosition;
use super::stream_position::{self, IdleStream, SourcePosition, StreamPosition};

/// Delay before the first poll of the source's position; [`SOURCE_POLL_INTERVAL`] applies after it.
const FIRST_SOURCE_POLL_DELAY: Duration = Duration::from_millis(500);
const SOURCE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Consecutive polls without an answer before an alert is raised.
const MAX_UNANSWERED_POLLS: u32 = 3;
/// Interval at which the members are polled.
const MEMBER_POLL_INTERVAL: Duration = Duration::from_secs(3);
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Age of an unarchived transaction at which an alert is raised.
const LATE_ARCHIVE_ALERT_AFTER: Duration = Duration::from_secs(5);

/// Heartbeats of a position that the source had left before: its stream stands in a deleted file. The
/// first one may have been on its way.
const MAX_STALE_HEARTBEATS: u64 = 8;

/// Monitor of one stream.
pub(super) struct Monitor<'a> {
    archiver: &'a Archiver<'a>,
    source: &'a ChosenSource<'a>,
    session: Option<Session>,
    /// Archived transactions that the source had when it was asked last, from its stream or not.
    archived: GtidSet,
    /// Consecutive polls without an answer.
    unanswered: u32,
    /// GTID set of the primary at a moment, until the archive contains it.
    had: Option<(DateTime<Utc>, GtidSet)>,
    /// Heartbeats when the source was first seen at another position than they name.
    stale: Option<IdleStream>,
}

impl<'a> Monitor<'a> {
    /// `reached` are all transactions of the source when the stream was begun.
    pub(super) fn new(archiver: &'a Archiver<'a>, source: &'a ChosenSource<'a>, reached: &GtidSet) -> Self {
        let archived = reached.intersect(&archiver.shared.queue.archived().gtids);
        Self { archiver, source, session: None, archived, unanswered: 0, had: None, stale: None }
    }

    /// Returns when another server should be streamed from, or the same one again because its
    /// binlog no longer matches the stream.
    pub(super) async fn until_source_changes(mut self) {
        let archiver = self.archiver;
        let mut looked = archiver.monotonic();
        archiver.sleep(FIRST_SOURCE_POLL_DELAY).await;
        loop {
            self.alert_late_archive();
            if let Some(why) = self.check_source().await {
                let endpoint = &self.source.from.endpoint;
                archiver.reporter().notice(&format!("reconnecting to {endpoint}: {why}"));
                return;
            }
            if archiver.monotonic() >= looked + MEMBER_POLL_INTERVAL {
                looked = archiver.monotonic();
                if self.check_members().await {
                    return;
                }
            }
            archiver.sleep(SOURCE_POLL_INTERVAL).await;
        }
    }

    /// Compares the source's position with that of its stream, and returns the reason why they do
    /// not fit. Only a position that fits is reported as complete or acknowledged again.
    async fn check_source(&mut self) -> Option<String> {
        let Shared { alerts, queue, .. } = &self.archiver.shared;
        // All are read before the source's position, which only moves forward.
        let streamed = self.archiver.stream_position.get()?;
        let asked_at = self.archiver.now();
        let asked = match self.ask().await {
            Ok(asked) => asked,
            Err(error) => {
                self.session = None;
                self.unanswered += 1;
                if self.unanswered >= MAX_UNANSWERED_POLLS {
                    let what = format!("cannot read the binlog position of {}", self.source.from.endpoint);
                    alerts.raise("source poll", &error.during(what), REMINDER_INTERVAL);
                }
                return None;
            }
        };
        self.unanswered = 0;
        alerts.clear("source poll");
        let archived = &queue.archived().gtids;
        let misfit = asked.misfit(&streamed).or_else(|| asked.lost(&self.archived));
        if let Some(why) = misfit.or_else(|| self.stands_still(&streamed, &asked)) {
            return Some(why);
        }
        self.archived = asked.reached.intersect(archived);
        if queue.given_up().is_some() {
            return None; // the next round resumes at the archive's end
        }
        if self.source.from.role == Role::Primary {
            self.complete(asked_at, &asked.reached);
        }
        if let Some(place) = self.durable_place(&streamed, asked) {
            self.acknowledge_again(place).await;
        }
        None
    }

    /// Returns the source's position if everything before it is durable: the stream is there, or it
    /// passed over transactions that the archive has from other servers. After a failover these
    /// include commits that wait for an acknowledgement, which the previous primary had replicated.
    fn durable_place(&self, streamed: &StreamPosition, asked: SourcePosition) -> Option<BinlogPosition> {
        self.archiver.ack()?;
        let archived = &self.archiver.shared.queue.archived().gtids;
        let is_streamed = asked.is_at(streamed) && self.is_durable(streamed);
        let is_idle = streamed.idle.as_ref().is_some_and(|idle| asked.place.as_ref() == Some(&idle.at));
        (is_streamed || (is_idle && asked.reached.is_subset_of(archived))).then_some(asked.place)?
    }

    /// Returns the reason why a stream that is alive will never send anything: the binlog was reset,
    /// and has passed the streamed position again before the source was asked.
    fn stands_still(&mut self, streamed: &StreamPosition, asked: &SourcePosition) -> Option<String> {
        let (Some(idle), Some(place)) = (&streamed.idle, &asked.place) else {
            self.stale = None;
            return None;
        };
        match &self.stale {
            _ if idle.at == *place => self.stale = None,
            Some(first) if first.at == idle.at => {
                let stale = idle.heartbeats.saturating_sub(first.heartbeats) >= MAX_STALE_HEARTBEATS;
                return stale.then(|| {
                    format!(
                        "it writes {} at {}, and its stream stands still in {} at {}",
                        place.file, place.offset, idle.at.file, idle.at.offset
                    )
                });
            }
            _ => self.stale = Some(idle.clone()),
        }
        None
    }

    async fn ask(&mut self) -> Result<SourcePosition> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.source.session().await?),
        };
        stream_position::source_position(session).await
    }

    /// Records the primary's GTID set at the time of the poll; it may be archived only later.
    fn complete(&mut self, asked_at: DateTime<Utc>, reached: &GtidSet) {
        let queue = &self.archiver.shared.queue;
        let archived = queue.archived().gtids;
        if let Some((at, had)) = &self.had
            && had.is_subset_of(&archived)
        {
            queue.complete_to(*at);
            self.had = None;
        }
        if reached.is_subset_of(&archived) {
            queue.complete_to(asked_at);
        } else if self.had.is_none() {
            self.had = Some((asked_at, reached.clone()));
        }
    }

    /// Acknowledges this position if a commit of the source waits: the acknowledgement may have been
    /// lost with the previous connection, or the stream leaves the commit out. If none waits, none
    /// is sent: it would cover all lower offsets in any file of that name.
    async fn acknowledge_again(&mut self, place: BinlogPosition) {
        let Some(session) = &mut self.session else { return };
        let waiting = stream_position::semi_sync(session, "wait_sessions").await.ok().flatten();
        if waiting.is_some_and(|count| count.parse() != Ok(0_u64)) {
            let source = self.source.from.server_uuid;
            let at = AckPosition { source, file: place.file, offset: place.offset };
            self.archiver.shared.semi_sync_ack.acknowledge(&at).await;
        }
    }

    /// True if everything published up to this stream position is durable in the sense of the
    /// configured acknowledgement.
    fn is_durable(&self, streamed: &StreamPosition) -> bool {
        let passed = self.archiver.shared.queue.counts();
        let durable = match self.archiver.config.settings.ack {
            ArchiveAck::Store => passed.archived,
            ArchiveAck::Spool => passed.synced.max(passed.archived),
        };
        durable >= streamed.published
    }

    /// Polls the members for the primary. True if another server should be streamed from.
    async fn check_members(&mut self) -> bool {
        let (archiver, from) = (self.archiver, &self.source.from);
        if archiver.ack().is_some() {
            self.check_semi_sync().await;
        }
        let fits = self.unanswered == 0;
        let asked_at = archiver.now();
        let Ok(members) = archiver.config.topology.members().await else { return false };
        if fits {
            self.complete_by_members(&members, asked_at);
        }
        let alerts = &archiver.shared.alerts;
        match stream_from(archiver.config.settings.from, &members, Some(from.server_uuid)) {
            Ok(other) if other.server_uuid != from.server_uuid => {
                let text = format!("switching to {}: {}", other.endpoint, other.reason);
                archiver.reporter().remark(&text);
                return true;
            }
            // No primary, or two: a running stream is not given up for that.
            Err(error) => alerts.raise("topology", &error, REMINDER_INTERVAL),
            Ok(same) => {
                alerts.clear("topology");
                alert_unfit_source(&archiver.shared, &same);
            }
        }
        false
    }

    /// Checks the semi-sync status: a source that stopped waiting replicates asynchronously, and
    /// only this variable shows it.
    async fn check_semi_sync(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Ok(Some(status)) = stream_position::semi_sync(session, "status").await else { return };
        let alerts = &self.archiver.shared.alerts;
        if status == "OFF" {
            let error = Error::failed(format!(
                "{} does not wait for acknowledgements: transactions that it commits now may be lost with it",
                self.source.from.endpoint
            ))
            .hint(format!("run `backstop check {}` for the settings it needs", self.archiver.config.shard));
            alerts.raise("semi-synchronous replication", &error, REMINDER_INTERVAL);
        } else {
            alerts.clear("semi-synchronous replication");
        }
    }

    /// Records how far the archive is behind the primary. If another server is streamed from, only
    /// the primary's GTID set shows that.
    fn complete_by_members(&self, members: &[Member], asked_at: DateTime<Utc>) {
        if self.source.from.role == Role::Primary {
            return;
        }
        let queue = &self.archiver.shared.queue;
        if let Ok((_, primary)) = current_primary(members)
            && primary.gtid_executed.is_subset_of(&queue.archived().gtids)
        {
            queue.complete_to(asked_at);
        }
    }

    fn alert_late_archive(&self) {
        let Shared { alerts, queue, .. } = &self.archiver.shared;
        let waited = queue.oldest_waiting().map(|since| self.archiver.monotonic().saturating_sub(since));
        match waited {
            Some(waited) if waited > LATE_ARCHIVE_ALERT_AFTER => {
                let what = format!("transactions have waited for the store for {} s", waited.as_secs());
                alerts.raise("archive", &Error::new(ErrorKind::Store, what), REMINDER_INTERVAL);
            }
            _ => alerts.clear("archive"),
        }
    }
}

/// Raises an alert for a source that has become unfit but is kept because no other server is
/// available.
pub(super) fn alert_unfit_source(shared: &Shared, from: &StreamFrom) {
    match from.refuse_unfit() {
        Err(error) => shared.alerts.raise("source's binlog", &error, REMINDER_INTERVAL),
        Ok(()) => shared.alerts.clear("source's binlog"),
    }
}
