//! What is looked at while the stream runs: who the primary is, whether the source still waits for acknowledgements, and the archiver's
//! own sign of life.

use std::time::Duration;

use backstop_binlog::Session;
use backstop_model::archive::Alive;
use backstop_model::archiving::{StreamFrom, stream_from};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::settings::ArchiveAck;
use backstop_model::topology::{Member, Role, current_primary};
use chrono::{DateTime, Utc};

use super::queue::At;
use super::standing::{self, Asked, Stand};
use super::{Archiving, Beside};

/// How soon after its stream began the source is asked where it is, and how often then.
const FIRST: Duration = Duration::from_millis(500);
const ASK: Duration = Duration::from_secs(1);
/// So many questions in a row without an answer are told.
const SILENT: u32 = 3;
/// How often the members are asked.
const LOOK: Duration = Duration::from_secs(3);
/// How often the archiver says that it lives.
const BEAT: Duration = Duration::from_secs(5);
const REMIND: Duration = Duration::from_secs(60);
/// What is not archived for so long is told.
const LATE: Duration = Duration::from_secs(5);

/// Ends when another server should be streamed from, or the same one again: its binlog is no longer what is streamed.
pub(super) async fn changed(a: &Archiving<'_>, beside: &Beside, from: &StreamFrom) {
    let mut watch = Watch::default();
    let mut looked = a.world.clock.monotonic();
    a.world.clock.sleep(FIRST).await;
    loop {
        late(a, beside);
        if let Some(why) = watch.source(a, beside, from).await {
            a.world.reporter.notice(&format!("turning to {} again: {why}", from.endpoint));
            return;
        }
        if a.world.clock.monotonic() >= looked + LOOK {
            looked = a.world.clock.monotonic();
            if watch.members(a, beside, from).await {
                return;
            }
        }
        a.world.clock.sleep(ASK).await;
    }
}

/// What is known from one look to the next.
#[derive(Default)]
struct Watch {
    session: Option<Session>,
    /// Looks in a row that brought no answer.
    unanswered: u32,
    /// What the primary had at a moment, until the archive has it.
    had: Option<(DateTime<Utc>, GtidSet)>,
}

impl Watch {
    /// Compares where the source is with where its stream is. Gives why they do not fit. Only what is known to fit is told to be complete,
    /// or acknowledged once more.
    async fn source(&mut self, a: &Archiving<'_>, beside: &Beside, from: &StreamFrom) -> Option<String> {
        // Both are read before the source is asked: it only moves forward.
        let stand = beside.standing.get()?;
        let asked_at = a.world.clock.now();
        let asked = match self.ask(a, from).await {
            Ok(asked) => asked,
            Err(fault) => {
                self.session = None;
                self.unanswered += 1;
                if self.unanswered >= SILENT {
                    let what = format!("ask {} where it is", from.endpoint);
                    beside.trouble.is("look at the source", &fault.during(what), REMIND);
                }
                return None;
            }
        };
        self.unanswered = 0;
        beside.trouble.over("look at the source");
        if let Some(why) = asked.misfit(&stand) {
            return Some(why);
        }
        if beside.queue.given_up().is_some() {
            return None; // the next round begins again from what is archived
        }
        if from.role == Role::Primary {
            self.complete(beside, asked_at, &asked.reached);
        }
        if a.settings.semi_sync && asked.is_at(&stand) && is_durable(a, beside, &stand) {
            self.repeat(beside, from, &stand).await;
        }
        None
    }

    async fn ask(&mut self, a: &Archiving<'_>, from: &StreamFrom) -> Result<Asked> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(standing::connect(from, a.access).await?),
        };
        standing::ask(session).await
    }

    /// What the primary had when it was asked may be archived only later.
    fn complete(&mut self, beside: &Beside, asked_at: DateTime<Utc>, reached: &GtidSet) {
        let archived = beside.queue.archived().gtids;
        if let Some((at, had)) = &self.had
            && had.is_subset_of(&archived)
        {
            beside.queue.complete_to(*at);
            self.had = None;
        }
        if reached.is_subset_of(&archived) {
            beside.queue.complete_to(asked_at);
        } else if self.had.is_none() {
            self.had = Some((asked_at, reached.clone()));
        }
    }

    /// An acknowledgement may have been lost with the connection before, and its commit would wait for ever. To a source that no one
    /// waits for it is not repeated: it covers all offsets before it, in whatever file has that name.
    async fn repeat(&mut self, beside: &Beside, from: &StreamFrom, stand: &Stand) {
        let (Some(session), Some(place)) = (&mut self.session, &stand.place) else { return };
        let waiting = standing::semi_sync(session, "wait_sessions").await.ok().flatten();
        if waiting.is_some_and(|count| count.parse() != Ok(0_u64)) {
            let at = At { source: from.server_uuid, file: place.file.clone(), offset: place.offset };
            beside.acknowledging.durable(&at).await;
        }
    }

    /// Asks the members who leads. True if another should be streamed from.
    async fn members(&mut self, a: &Archiving<'_>, beside: &Beside, from: &StreamFrom) -> bool {
        if a.settings.semi_sync {
            self.semi_sync(a, beside, from).await;
        }
        let fits = self.unanswered == 0;
        let asked_at = a.world.clock.now();
        let Ok(members) = a.topology.look().await else { return false };
        if fits {
            complete(beside, from, &members, asked_at);
        }
        match stream_from(a.settings.from, &members, Some(from.server_uuid)) {
            Ok(other) if other.server_uuid != from.server_uuid => {
                a.world.reporter.remark(&format!("turning to {}: {}", other.endpoint, other.reason));
                return true;
            }
            // Nobody leads, or two do: as long as this stream runs it is not given up.
            Err(fault) => beside.trouble.is("topology", &fault, REMIND),
            Ok(same) => {
                beside.trouble.over("topology");
                suspicious(beside, &same);
            }
        }
        false
    }

    /// A source that gave up waiting replicates asynchronously, and says so only here.
    async fn semi_sync(&mut self, a: &Archiving<'_>, beside: &Beside, from: &StreamFrom) {
        let Some(session) = &mut self.session else { return };
        let Ok(Some(status)) = standing::semi_sync(session, "status").await else { return };
        if status == "OFF" {
            let fault = Fault::failed(format!(
                "{} does not wait for acknowledgements now: what it commits until it does may be lost with it",
                from.endpoint
            ))
            .hint(format!("`backstop check {}` says which settings it needs", a.shard));
            beside.trouble.is("semi-synchronous replication", &fault, REMIND);
        } else {
            beside.trouble.over("semi-synchronous replication");
        }
    }
}

/// A source that has become unfit is streamed from as long as no other is there, and that is trouble.
pub(super) fn suspicious(beside: &Beside, from: &StreamFrom) {
    match from.refuse_unfit() {
        Err(fault) => beside.trouble.is("source's binlog", &fault, REMIND),
        Ok(()) => beside.trouble.over("source's binlog"),
    }
}

/// True if all that was published when the stream stood there is where an acknowledgement says that it is.
fn is_durable(a: &Archiving<'_>, beside: &Beside, stand: &Stand) -> bool {
    let passed = beside.queue.passed();
    let durable = match a.settings.ack {
        ArchiveAck::Store => passed.archived,
        ArchiveAck::Spool => passed.synced.max(passed.archived),
    };
    durable >= stand.published
}

/// How far the archive is behind the primary is known from the primary only, if another is streamed from.
fn complete(beside: &Beside, from: &StreamFrom, members: &[Member], asked_at: DateTime<Utc>) {
    if from.role == Role::Primary {
        return;
    }
    if let Ok((_, primary)) = current_primary(members)
        && primary.gtid_executed.is_subset_of(&beside.queue.archived().gtids)
    {
        beside.queue.complete_to(asked_at);
    }
}

fn late(a: &Archiving<'_>, beside: &Beside) {
    let waited = beside.queue.oldest().map(|since| a.world.clock.monotonic().saturating_sub(since));
    match waited {
        Some(waited) if waited > LATE => {
            let what = format!("archive: transactions wait for the store since {} s", waited.as_secs());
            beside.trouble.is("archive", &Fault::new(Kind::Store, what), REMIND);
        }
        _ => beside.trouble.over("archive"),
    }
}

/// Says that the archiver lives, for ever. Ends with what ends it: another holds the shard.
pub(super) async fn pulse(a: &Archiving<'_>, beside: &Beside) -> Fault {
    loop {
        match a.store.heartbeat(&alive(a, beside)).await {
            Err(fault) if fault.kind == Kind::Held => return fault,
            Err(fault) => beside.trouble.is("sign of life", &fault, REMIND),
            Ok(()) => beside.trouble.over("sign of life"),
        }
        a.world.clock.sleep(BEAT).await;
    }
}

/// Says that all is archived, as the last thing.
pub(super) async fn farewell(a: &Archiving<'_>, beside: &Beside) -> Result<()> {
    a.store.heartbeat(&alive(a, beside)).await
}

fn alive(a: &Archiving<'_>, beside: &Beside) -> Alive {
    let told = beside.queue.archived();
    Alive {
        at: a.world.clock.now(),
        source: told.source,
        archived: told.gtids,
        complete_to: told.complete_to,
        last_commit: told.last_commit,
        trouble: beside.trouble.all(),
    }
}
