//! What is looked at while the stream runs: who the primary is, whether the source still waits for acknowledgements, and the archiver's
//! own sign of life.

use std::time::Duration;

use backstop_binlog::Session;
use backstop_model::archive::Alive;
use backstop_model::archiving::{StreamFrom, stream_from};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::topology::{Member, Role, current_primary};
use chrono::{DateTime, Utc};

use super::source::connect;
use super::{Archiving, Beside};

/// How often the members are asked.
const LOOK: Duration = Duration::from_secs(3);
/// How often the archiver says that it lives.
const BEAT: Duration = Duration::from_secs(5);
const REMIND: Duration = Duration::from_secs(60);
/// What is not archived for so long is told.
const LATE: Duration = Duration::from_secs(5);

/// Ends when another server should be streamed from.
pub(super) async fn changed(a: &Archiving<'_>, beside: &Beside, from: &StreamFrom) {
    let mut session = None;
    loop {
        a.world.clock.sleep(LOOK).await;
        late(a, beside);
        if a.settings.semi_sync {
            semi_sync(a, beside, from, &mut session).await;
        }
        let asked_at = a.world.clock.now();
        let Ok(members) = a.topology.look().await else { continue };
        complete(beside, from, &members, asked_at);
        match stream_from(a.settings.from, &members, Some(from.server_uuid)) {
            Ok(other) if other.server_uuid != from.server_uuid => {
                a.world.reporter.notice(&format!("turning to {}: {}", other.endpoint, other.reason));
                return;
            }
            // Nobody leads, or two do: as long as this stream runs it is not given up.
            Err(fault) => beside.trouble.is("topology", &fault, REMIND),
            Ok(_) => beside.trouble.over("topology"),
        }
    }
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

/// A source that gave up waiting replicates asynchronously, and says so only here.
async fn semi_sync(a: &Archiving<'_>, beside: &Beside, from: &StreamFrom, session: &mut Option<Session>) {
    let Some(status) = status(a, from, session).await else { return };
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

async fn status(a: &Archiving<'_>, from: &StreamFrom, session: &mut Option<Session>) -> Option<String> {
    if session.is_none() {
        *session = connect(&from.endpoint, a.credentials).await.ok();
    }
    let sql = "SHOW GLOBAL STATUS WHERE Variable_name IN \
               ('Rpl_semi_sync_source_status', 'Rpl_semi_sync_master_status')";
    match session.as_mut()?.query(sql).await {
        Ok(rows) => rows.into_iter().next()?.into_iter().nth(1)?,
        Err(_) => {
            *session = None;
            None
        }
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
