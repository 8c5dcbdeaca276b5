//! What is looked at while the stream runs: who the primary is, whether the source still waits for acknowledgements, and the archiver's
//! own sign of life.

use std::time::Duration;

use backstop_binlog::Session;
use backstop_model::archive::ArchiverHeartbeat;
use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::settings::ArchiveAck;
use backstop_model::stream_or_fork::{StreamFrom, stream_from};
use backstop_model::topology::{Member, Role, current_primary};
use chrono::{DateTime, Utc};

use super::queue::AckPosition;
use super::stream_position::{self, SourcePosition, StreamPosition};
use super::{Archiver, Shared};

/// How soon after its stream began the source is asked where it is, and how often then.
const FIRST_SOURCE_POLL_DELAY: Duration = Duration::from_millis(500);
const SOURCE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// So many questions in a row without an answer are told.
const MAX_UNANSWERED_POLLS: u32 = 3;
/// How often the members are asked.
const MEMBER_POLL_INTERVAL: Duration = Duration::from_secs(3);
/// How often the archiver says that it lives.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// What is not archived for so long is told.
const LATE_ARCHIVE_ALERT_AFTER: Duration = Duration::from_secs(5);

/// Ends when another server should be streamed from, or the same one again: its binlog is no longer what is streamed.
pub(super) async fn until_source_changes(archiver: &Archiver<'_>, shared: &Shared, from: &StreamFrom) {
    let mut monitor = Monitor::default();
    let mut looked = archiver.ctx.clock.monotonic();
    archiver.ctx.clock.sleep(FIRST_SOURCE_POLL_DELAY).await;
    loop {
        alert_late_archive(archiver, shared);
        if let Some(why) = monitor.check_source(archiver, shared, from).await {
            archiver.ctx.reporter.notice(&format!("turning to {} again: {why}", from.endpoint));
            return;
        }
        if archiver.ctx.clock.monotonic() >= looked + MEMBER_POLL_INTERVAL {
            looked = archiver.ctx.clock.monotonic();
            if monitor.check_members(archiver, shared, from).await {
                return;
            }
        }
        archiver.ctx.clock.sleep(SOURCE_POLL_INTERVAL).await;
    }
}

/// What is known from one look to the next.
#[derive(Default)]
struct Monitor {
    session: Option<Session>,
    /// Looks in a row that brought no answer.
    unanswered: u32,
    /// What the primary had at a moment, until the archive has it.
    had: Option<(DateTime<Utc>, GtidSet)>,
}

impl Monitor {
    /// Compares where the source is with where its stream is. Gives why they do not fit. Only what is known to fit is told to be complete,
    /// or acknowledged once more.
    async fn check_source(
        &mut self,
        archiver: &Archiver<'_>,
        shared: &Shared,
        from: &StreamFrom,
    ) -> Option<String> {
        // Both are read before the source is asked: it only moves forward.
        let streamed = shared.stream_position.get()?;
        let asked_at = archiver.ctx.clock.now();
        let asked = match self.ask(archiver, from).await {
            Ok(asked) => asked,
            Err(error) => {
                self.session = None;
                self.unanswered += 1;
                if self.unanswered >= MAX_UNANSWERED_POLLS {
                    let what = format!("ask {} where it is", from.endpoint);
                    shared.alerts.raise("look at the source", &error.during(what), REMINDER_INTERVAL);
                }
                return None;
            }
        };
        self.unanswered = 0;
        shared.alerts.clear("look at the source");
        if let Some(why) = asked.misfit(&streamed) {
            return Some(why);
        }
        if shared.queue.given_up().is_some() {
            return None; // the next round begins again from what is archived
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

    /// What the primary had when it was asked may be archived only later.
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

    /// An acknowledgement may have been lost with the connection before, and its commit would wait for ever. To a source that no one
    /// waits for it is not repeated: it covers all offsets before it, in whatever file has that name.
    async fn acknowledge_again(&mut self, shared: &Shared, from: &StreamFrom, streamed: &StreamPosition) {
        let (Some(session), Some(place)) = (&mut self.session, &streamed.place) else { return };
        let waiting = stream_position::semi_sync(session, "wait_sessions").await.ok().flatten();
        if waiting.is_some_and(|count| count.parse() != Ok(0_u64)) {
            let at = AckPosition { source: from.server_uuid, file: place.file.clone(), offset: place.offset };
            shared.semi_sync_ack.acknowledge(&at).await;
        }
    }

    /// Asks the members who leads. True if another should be streamed from.
    async fn check_members(&mut self, archiver: &Archiver<'_>, shared: &Shared, from: &StreamFrom) -> bool {
        if archiver.settings.semi_sync {
            self.check_semi_sync(archiver, shared, from).await;
        }
        let fits = self.unanswered == 0;
        let asked_at = archiver.ctx.clock.now();
        let Ok(members) = archiver.topology.members().await else { return false };
        if fits {
            complete(shared, from, &members, asked_at);
        }
        match stream_from(archiver.settings.from, &members, Some(from.server_uuid)) {
            Ok(other) if other.server_uuid != from.server_uuid => {
                archiver.ctx.reporter.remark(&format!("turning to {}: {}", other.endpoint, other.reason));
                return true;
            }
            // Nobody leads, or two do: as long as this stream runs it is not given up.
            Err(error) => shared.alerts.raise("topology", &error, REMINDER_INTERVAL),
            Ok(same) => {
                shared.alerts.clear("topology");
                alert_unfit_source(shared, &same);
            }
        }
        false
    }

    /// A source that gave up waiting replicates asynchronously, and says so only here.
    async fn check_semi_sync(&mut self, archiver: &Archiver<'_>, shared: &Shared, from: &StreamFrom) {
        let Some(session) = &mut self.session else { return };
        let Ok(Some(status)) = stream_position::semi_sync(session, "status").await else { return };
        if status == "OFF" {
            let error = Error::failed(format!(
                "{} does not wait for acknowledgements now: what it commits until it does may be lost with it",
                from.endpoint
            ))
            .hint(format!("`backstop check {}` says which settings it needs", archiver.shard));
            shared.alerts.raise("semi-synchronous replication", &error, REMINDER_INTERVAL);
        } else {
            shared.alerts.clear("semi-synchronous replication");
        }
    }
}

/// A source that has become unfit is streamed from as long as no other is there, and that is trouble.
pub(super) fn alert_unfit_source(shared: &Shared, from: &StreamFrom) {
    match from.refuse_unfit() {
        Err(error) => shared.alerts.raise("source's binlog", &error, REMINDER_INTERVAL),
        Ok(()) => shared.alerts.clear("source's binlog"),
    }
}

/// True if all that was published when the stream stood there is where an acknowledgement says that it is.
fn is_durable(archiver: &Archiver<'_>, shared: &Shared, streamed: &StreamPosition) -> bool {
    let passed = shared.queue.counts();
    let durable = match archiver.settings.ack {
        ArchiveAck::Store => passed.archived,
        ArchiveAck::Spool => passed.synced.max(passed.archived),
    };
    durable >= streamed.published
}

/// How far the archive is behind the primary is known from the primary only, if another is streamed from.
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
        shared.queue.oldest_waiting().map(|since| archiver.ctx.clock.monotonic().saturating_sub(since));
    match waited {
        Some(waited) if waited > LATE_ARCHIVE_ALERT_AFTER => {
            let what = format!("archive: transactions wait for the store since {} s", waited.as_secs());
            shared.alerts.raise("archive", &Error::new(ErrorKind::Store, what), REMINDER_INTERVAL);
        }
        _ => shared.alerts.clear("archive"),
    }
}

/// Says that the archiver lives, for ever. Ends with what ends it: another holds the shard.
pub(super) async fn heartbeat(archiver: &Archiver<'_>, shared: &Shared) -> Error {
    loop {
        match archiver.store.heartbeat(&alive_record(archiver, shared)).await {
            Err(error) if error.kind == ErrorKind::Held => return error,
            Err(error) => shared.alerts.raise("sign of life", &error, REMINDER_INTERVAL),
            Ok(()) => shared.alerts.clear("sign of life"),
        }
        archiver.ctx.clock.sleep(HEARTBEAT_INTERVAL).await;
    }
}

/// Says that all is archived, as the last thing.
pub(super) async fn final_heartbeat(archiver: &Archiver<'_>, shared: &Shared) -> Result<()> {
    archiver.store.heartbeat(&alive_record(archiver, shared)).await
}

fn alive_record(archiver: &Archiver<'_>, shared: &Shared) -> ArchiverHeartbeat {
    let told = shared.queue.archived();
    ArchiverHeartbeat {
        at: archiver.ctx.clock.now(),
        source: told.source,
        archived: told.gtids,
        complete_to: told.complete_to,
        last_commit: told.last_commit,
        trouble: shared.alerts.summary(),
    }
}
