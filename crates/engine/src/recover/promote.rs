//! A recovered instance as the shard's new primary, after all its servers were lost.

use backstop_model::archive::Archive;
use backstop_model::events::EventsPlan;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use backstop_model::topology::{Member, Unusable};
use backstop_repo::Manifest;

use super::configure::{self, Phase};
use super::{Decided, MembersThatAnswer, Recover, events, join};
use crate::journal::Steps;
use crate::ports::{ReadOnly, RecoveredSession};

/// Checks that nobody of the shard answers. Gives a server id.
pub(super) async fn possible(r: &Recover<'_>) -> Result<u32> {
    let members = alone(r).await?;
    if let Some(notice) = begun_before(&r.archive.contents().await?) {
        r.world.reporter.notice(&notice);
    }
    Ok(join::server_id(r.world, &members))
}

/// Says that the current line was begun and nothing of it archived: a recovery into another directory may have begun it.
fn begun_before(archive: &Archive) -> Option<String> {
    let line = archive.current().filter(|line| line.parent.is_some())?;
    if archive.segments.iter().any(|segment| segment.line == line.number) {
        return None;
    }
    Some(format!(
        "line {} of the archive was begun at {} with server {}, and nothing of it is archived: if a recovery into another directory did \
         that and did not end, give its own command again instead, which goes on with that line; if its server runs, two primaries tear \
         the shard apart",
        line.number,
        line.begun_at.format("%FT%TZ"),
        line.source
    ))
}

/// Makes sure, again, that it will be the only primary. Done before the server listens where clients reach it: that may be the very
/// address of a lost member.
pub(super) async fn still_alone(r: &Recover<'_>) -> Result<()> {
    r.world.step("alone", alone(r)).await.map(drop)
}

/// Makes it the primary: the last things that are done, and writable only then.
pub(super) async fn promote(
    r: &Recover<'_>,
    steps: &mut Steps<'_>,
    session: &mut dyn RecoveredSession,
    manifest: &Manifest,
    decided: &Decided,
) -> Result<()> {
    let events = if steps.is_done("events") {
        EventsPlan::default()
    } else {
        r.world.step("follow_events", events::planned(r, session, manifest, decided)).await?
    };
    if let Some(current) = r.archive.contents().await?.current() {
        let of = decided.replay.as_ref().map_or(current.number, |replay| replay.line);
        let (uuid, held) = (session.server_uuid().await?, session.gtid_executed().await?);
        steps.once("begin_line", begin_line(r, uuid, &held, of)).await?;
    }
    steps.again("promote", writable(r, session, manifest, decided)).await?;
    steps.once("events", events::give_back(r, session, manifest, &events)).await?;
    if events::scheduler(r, manifest) {
        r.world.step("event_scheduler", session.start_event_scheduler()).await?;
    }
    Ok(())
}

/// The members, if all of them are gone or that is to be disregarded. Gone is only who refuses connections or cannot be routed to: one
/// that hangs, or of which nothing is known, may write on.
async fn alone(r: &Recover<'_>) -> Result<Vec<Member>> {
    let looked = r.topology.look().await;
    let force = format!(
        "if the shard is lost all the same, give --force-as-primary {}; two primaries tear a shard apart",
        r.request.shard
    );
    match (looked, r.request.members) {
        (Ok(members), MembersThatAnswer::Disregard) => Ok(members),
        (Err(fault), MembersThatAnswer::Disregard) => {
            r.world.reporter.notice(&format!("the members were not asked: {fault}"));
            Ok(Vec::new())
        }
        (Err(fault), MembersThatAnswer::Refuse) => {
            Err(fault.during("make sure that no member answers").hint(force))
        }
        (Ok(members), MembersThatAnswer::Refuse) => {
            let seen: Vec<String> = members.iter().filter_map(may_live).collect();
            if seen.is_empty() {
                return Ok(members);
            }
            let message = format!(
                "make a new primary of shard {}: not all of its members are lost: {}",
                r.request.shard,
                seen.join("; ")
            );
            Err(Fault::refused(message).hint(format!("recover with --join, or promote a member; {force}")))
        }
    }
}

/// What was seen of a member that may live; `None` for one that is gone.
fn may_live(member: &Member) -> Option<String> {
    match &member.state {
        Ok(_) => Some(format!("{} answers", member.endpoint)),
        Err(Unusable::Unreachable(_)) => None,
        Err(why) => Some(format!("{} {why}", member.endpoint)),
    }
}

/// Begins a line with this server, unless an earlier run has. What the old line has beyond is left there.
async fn begin_line(r: &Recover<'_>, uuid: ServerUuid, held: &GtidSet, of: u32) -> Result<u32> {
    let begun = |archive: &Archive| {
        archive.current().filter(|line| line.source == uuid && line.parent.is_some()).map(|line| line.number)
    };
    if let Some(number) = begun(&r.archive.contents().await?) {
        return Ok(number);
    }
    let claim = r.repository.claim_archive(&r.request.shard).await;
    let writer = claim.map_err(|fault| match fault.kind {
        Kind::Held => fault
            .hint(format!("stop the archiver of shard {}, and give the same command again", r.request.shard)),
        _ => fault,
    })?;
    writer.seal_tail().await?;
    let archive = r.archive.contents().await?;
    let left = archive.held(of).unwrap_or_default().subtract(held);
    let number = writer.begin_line(uuid, held, &left, r.world.clock.now()).await?;
    writer.release().await?;
    if !left.is_empty() {
        r.world.reporter.notice(&format!("line {of} of the archive keeps what is left behind: {left}"));
    }
    Ok(number)
}

/// Takes writes from now on, also after a restart.
async fn writable(
    r: &Recover<'_>,
    session: &mut dyn RecoveredSession,
    manifest: &Manifest,
    decided: &Decided,
) -> Result<()> {
    configure::write(r, manifest, decided, Phase::Serving(ReadOnly::Off)).await?;
    session.set_super_read_only(ReadOnly::Off).await
}
