//! Background checks while streaming: primary, semi-sync status, heartbeat.

use std::time::Duration;

use backstop_binlog::Session;
use backstop_config::settings::ArchiveAck;
use backstop_policy::stream_or_fork::{StreamFrom, stream_from};
use backstop_policy::topology::current_primary;
use backstop_types::archive::ArchiverHeartbeat;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::topology::{Member, Role};
use chrono::{DateTime, Utc};

use super::queue::AckPosition;
use super::stream_position::{self, SourcePosition, StreamPosition};
use super::{Archiver, Shared};

/// Delay before the first poll of the source's position; [`SOURCE_POLL_INTERVAL`] applies after it.
const FIRST_SOURCE_POLL_DELAY: Duration = Duration::from_millis(500);
const SOURCE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Consecutive polls without an answer before an alert is raised.
const MAX_UNANSWERED_POLLS: u32 = 3;
/// Interval at which the members are polled.
const MEMBER_POLL_INTERVAL: Duration = Duration::from_secs(3);
/// Interval at which the archiver writes its heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Age of an unarchived transaction at which an alert is raised.
const LATE_ARCHIVE_ALERT_AFTER: Duration = Duration::from_secs(5);

/// Returns when another server should be streamed from, or the same one again because its binlog no
/// longer matches the stream.
pub(super) async fn until_source_changes(archiver: &Archiver<'_>, shared: &Shared, from: &StreamFrom) {
    let mut monitor = Monitor::default();
    let mut looked = archiver.ctx.host.clock.monotonic();
    archiver.ctx.host.clock.sleep(FIRST_SOURCE_POLL_DELAY).await;
    loop {
        alert_late_archive(archiver, shared);
        if let Some(why) = monitor.check_source(archiver, shared, from).await {
            archiver.ctx.reporter.notice(&format!("reconnecting to {}: {why}", from.endpoint));
            return;
        }
        if archiver.ctx.host.clock.monotonic() >= looked + MEMBER_POLL_INTERVAL {
            looked = archiver.ctx.host.clock.monotonic();
            if monitor.check_members(archiver, shared, from).await {
                return;
            }
        }
        archiver.ctx.host.clock.sleep(SOURCE_POLL_INTERVAL).await;
    }
}

/// State kept between two polls.
#[derive(Default)]
struct Monitor {
    session: Option<Session>,
    /// Consecutive polls without an answer.
    unanswered: u32,
    /// GTID set of the primary at a moment, until the archive contains it.
    had: Option<(DateTime<Utc>, GtidSet)>,
}

impl Monitor {
    /// Compares the source's position with that of its stream, and returns the reason why they do
    /// not fit. Only a position that fits is reported as complete or acknowledged again.
    async fn check_source(
        &mut self,
        archiver: &Archiver<'_>,
        shared: &Shared,
        from: &StreamFrom,
    ) -> Option<String> {
        // Both are read before the source's position, which only moves forward.
        let streamed = shared.stream_position.get()?;
        let asked_at = archiver.ctx.host.clock.now();
        let asked = match self.ask(archiver, from).await {
            Ok(asked) => asked,
            Err(error) => {
                self.session = None;
                self.unanswered += 1;
                if self.unanswered >= MAX_UNANSWERED_POLLS {
                    let what = format!("cannot read the binlog position of {}", from.endpoint);
                    shared.alerts.raise("source poll", &error.during(what), REMINDER_INTERVAL);
                }
                return None;
            }
        };
        self.unanswered = 0;
        shared.alerts.clear("source poll");
        if let Some(why) = asked.misfit(&streamed) {
            return Some(why);
        }
        if shared.queue.given_up().is_some() {
            return None; // the next round resumes at the archive's end
        }
        if from.role == Role::Primary {
            self.complete(shared, asked_at, &asked.reached);
        }
        if archiver.settings.semi_sync && asked.is_at(&streamed) && is_durable(archiver, shared, &streamed) {
            self.acknowledge_again(shared, from, &streamed).await;
        }
        None
    }

    async fn ask(&mut self, archiver: &Archiver<'_>, from: &StreamFrom) -> Result<SourcePosition> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(stream_position::connect(from, archiver.access).await?),
        };
        stream_position::source_position(session).await
    }

    /// Records the primary's GTID set at the time of the poll; it may be archived only later.
    fn complete(&mut self, shared: &Shared, asked_at: DateTime<Utc>, reached: &GtidSet) {
        let archived = shared.queue.archived().gtids;
        if let Some((at, had)) = &self.had
            && had.is_subset_of(&archived)
        {
            shared.queue.complete_to(*at);
            self.had = None;
        }
        if reached.is_subset_of(&archived) {
            shared.queue.complete_to(asked_at);
        } else if self.had.is_none() {
            self.had = Some((asked_at, reached.clone()));
        }
    }

    /// Repeats the last acknowledgement, which may have been lost with the previous connection: its
    /// commit would wait for ever. If no commit of the source waits, the acknowledgement is not
    /// repeated: it covers all lower offsets in any file of that name.
    async fn acknowledge_again(&mut self, shared: &Shared, from: &StreamFrom, streamed: &StreamPosition) {
        let (Some(session), Some(place)) = (&mut self.session, &streamed.place) else { return };
        let waiting = stream_position::semi_sync(session, "wait_sessions").await.ok().flatten();
        if waiting.is_some_and(|count| count.parse() != Ok(0_u64)) {
            let at = AckPosition { source: from.server_uuid, file: place.file.clone(), offset: place.offset };
            shared.semi_sync_ack.acknowledge(&at).await;
        }
    }

    /// Polls the members for the primary. True if another server should be streamed from.
    async fn check_members(&mut self, archiver: &Archiver<'_>, shared: &Shared, from: &StreamFrom) -> bool {
        if archiver.settings.semi_sync {
            self.check_semi_sync(archiver, shared, from).await;
        }
        let fits = self.unanswered == 0;
        let asked_at = archiver.ctx.host.clock.now();
        let Ok(members) = archiver.topology.members().await else { return false };
        if fits {
            complete(shared, from, &members, asked_at);
        }
        match stream_from(archiver.settings.from, &members, Some(from.server_uuid)) {
            Ok(other) if other.server_uuid != from.server_uuid => {
                archiver.ctx.reporter.remark(&format!("switching to {}: {}", other.endpoint, other.reason));
                return true;
            }
            // No primary, or two: a running stream is not given up for that.
            Err(error) => shared.alerts.raise("topology", &error, REMINDER_INTERVAL),
            Ok(same) => {
                shared.alerts.clear("topology");
                alert_unfit_source(shared, &same);
            }
        }
        false
    }

    /// Checks the semi-sync status: a source that stopped waiting replicates asynchronously, and
    /// only this variable shows it.
    async fn check_semi_sync(&mut self, archiver: &Archiver<'_>, shared: &Shared, from: &StreamFrom) {
        let Some(session) = &mut self.session else { return };
        let Ok(Some(status)) = stream_position::semi_sync(session, "status").await else { return };
        if status == "OFF" {
            let error = Error::failed(format!(
                "{} does not wait for acknowledgements: transactions that it commits now may be lost with it",
                from.endpoint
            ))
            .hint(format!("run `backstop check {}` for the settings it needs", archiver.shard));
            shared.alerts.raise("semi-synchronous replication", &error, REMINDER_INTERVAL);
        } else {
            shared.alerts.clear("semi-synchronous replication");
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

/// True if everything published up to this stream position is durable in the sense of the
/// configured acknowledgement.
fn is_durable(archiver: &Archiver<'_>, shared: &Shared, streamed: &StreamPosition) -> bool {
    let passed = shared.queue.counts();
    let durable = match archiver.settings.ack {
        ArchiveAck::Store => passed.archived,
        ArchiveAck::Spool => passed.synced.max(passed.archived),
    };
    durable >= streamed.published
}

/// Records how far the archive is behind the primary. If another server is streamed from, only the
/// primary's GTID set shows that.
fn complete(shared: &Shared, from: &StreamFrom, members: &[Member], asked_at: DateTime<Utc>) {
    if from.role == Role::Primary {
        return;
    }
    if let Ok((_, primary)) = current_primary(members)
        && primary.gtid_executed.is_subset_of(&shared.queue.archived().gtids)
    {
        shared.queue.complete_to(asked_at);
    }
}

fn alert_late_archive(archiver: &Archiver<'_>, shared: &Shared) {
    let waited =
        shared.queue.oldest_waiting().map(|since| archiver.ctx.host.clock.monotonic().saturating_sub(since));
    match waited {
        Some(waited) if waited > LATE_ARCHIVE_ALERT_AFTER => {
            let what = format!("transactions have waited for the store for {} s", waited.as_secs());
            shared.alerts.raise("archive", &Error::new(ErrorKind::Store, what), REMINDER_INTERVAL);
        }
        _ => shared.alerts.clear("archive"),
    }
}

/// Writes a heartbeat every [`HEARTBEAT_INTERVAL`]; returns when another archiver has taken the
/// lease.
pub(super) async fn heartbeat(archiver: &Archiver<'_>, shared: &Shared) -> Error {
    loop {
        match archiver.store.heartbeat(&alive_record(archiver, shared)).await {
            Err(error) if error.kind == ErrorKind::Held => return error,
            Err(error) => shared.alerts.raise("heartbeat", &error, REMINDER_INTERVAL),
            Ok(()) => shared.alerts.clear("heartbeat"),
        }
        archiver.ctx.host.clock.sleep(HEARTBEAT_INTERVAL).await;
    }
}

/// Writes the final heartbeat, which says that everything is archived.
pub(super) async fn final_heartbeat(archiver: &Archiver<'_>, shared: &Shared) -> Result<()> {
    archiver.store.heartbeat(&alive_record(archiver, shared)).await
}

fn alive_record(archiver: &Archiver<'_>, shared: &Shared) -> ArchiverHeartbeat {
    let told = shared.queue.archived();
    ArchiverHeartbeat {
        at: archiver.ctx.host.clock.now(),
        source: told.source,
        archived: told.gtids,
        complete_to: told.complete_to,
        last_commit: told.last_commit,
        trouble: shared.alerts.summary(),
    }
}
