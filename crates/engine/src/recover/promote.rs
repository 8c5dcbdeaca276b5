//! Promotes a recovered instance to the shard's new primary, after all its servers were lost.

use backstop_policy::scheduled_events::EventsPlan;
use backstop_repo::Manifest;
use backstop_types::archive::Archive;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{ServerUuid, ShardName};
use backstop_types::topology::{Member, NoAnswer};

use super::option_file::{self, Phase};
use super::{LiveMembers, Recovery, RecoveryDecision, events, join};
use crate::context::RunContext;
use crate::journal::Steps;
use crate::ports::{AdminSession, ReadOnly, Topology};

/// Checks that no member of the shard answers. Returns a server id.
pub(super) async fn check_promotable(recovery: &Recovery<'_>) -> Result<u32> {
    let members = check_alone(recovery).await?;
    if let Some(notice) = begun_before(&recovery.archive.contents().await?) {
        recovery.ctx.reporter.notice(&notice);
    }
    join::server_id(recovery.ctx, &members)
}

/// Returns a warning if the current timeline was begun and nothing of it is archived: a recovery
/// into another directory may have begun it.
fn begun_before(archive: &Archive) -> Option<String> {
    let timeline = archive.current().filter(|timeline| timeline.parent.is_some())?;
    if archive.segments.iter().any(|segment| segment.timeline == timeline.number) {
        return None;
    }
    Some(format!(
        "timeline {} of the archive began at {} with server {}, and nothing on it is archived: if an unfinished recovery into another directory \
         began it, repeat that recovery's command instead, which resumes that timeline; if its server is running, two primaries corrupt \
         the shard",
        timeline.number,
        timeline.begun_at.format("%FT%TZ"),
        timeline.source
    ))
}

/// Checks again that it will be the only primary, before the server listens where clients reach it:
/// that may be the very address of a lost member.
pub(super) async fn check_still_alone(recovery: &Recovery<'_>) -> Result<()> {
    recovery.ctx.step("alone", check_alone(recovery)).await.map(drop)
}

/// Makes it the primary: runs the last steps, and makes it writable only after them.
pub(super) async fn promote(
    recovery: &Recovery<'_>,
    steps: &mut Steps<'_>,
    session: &mut dyn AdminSession,
    manifest: &Manifest,
    decided: &RecoveryDecision,
) -> Result<()> {
    let events = if steps.is_done("events") {
        EventsPlan::default()
    } else {
        recovery
            .ctx
            .step("follow_events", events::decide_events(recovery, session, manifest, decided))
            .await?
    };
    if let Some(current) = recovery.archive.contents().await?.current() {
        let of = decided.replay.as_ref().map_or(current.number, |replay| replay.timeline);
        let (uuid, held) = (session.server_uuid().await?, session.gtid_executed().await?);
        steps.once("begin_line", begin_timeline(recovery, uuid, &held, of)).await?;
    }
    steps.again("promote", make_writable(recovery, session, manifest, decided)).await?;
    steps.once("events", events::restore_events(recovery, session, manifest, &events)).await?;
    if events::scheduler(recovery, manifest) {
        recovery.ctx.step("event_scheduler", session.start_event_scheduler()).await?;
    }
    Ok(())
}

async fn check_alone(recovery: &Recovery<'_>) -> Result<Vec<Member>> {
    let Recovery { topology, ctx, request, .. } = recovery;
    lost_members(*topology, ctx, &request.shard, request.members).await
}

/// Returns the members if all of them are gone, or if live ones are disregarded. A member is gone
/// only if it refuses connections or cannot be routed to: one that hangs, or whose state is unknown,
/// may still accept writes.
pub(crate) async fn lost_members(
    topology: &dyn Topology,
    ctx: &RunContext,
    shard: &ShardName,
    live: LiveMembers,
) -> Result<Vec<Member>> {
    let looked = topology.members().await;
    let force = format!(
        "if the shard is lost nevertheless, add --force-as-primary {shard}; two primaries corrupt a shard"
    );
    match (looked, live) {
        (Ok(members), LiveMembers::Disregard) => Ok(members),
        (Err(error), LiveMembers::Disregard) => {
            ctx.reporter.notice(&format!("the members were not checked: {error}"));
            Ok(Vec::new())
        }
        (Err(error), LiveMembers::Refuse) => {
            Err(error.during("cannot verify that no member answers").hint(force))
        }
        (Ok(members), LiveMembers::Refuse) => {
            let seen: Vec<String> = members.iter().filter_map(sign_of_life).collect();
            if seen.is_empty() {
                return Ok(members);
            }
            let message = format!(
                "cannot create a new primary of shard {shard}: not all of its members are lost: {}",
                seen.join("; ")
            );
            Err(Error::refused(message).hint(format!("recover with --join, or promote a member; {force}")))
        }
    }
}

/// Returns the evidence that a member may be alive; `None` if it is gone.
fn sign_of_life(member: &Member) -> Option<String> {
    match &member.state {
        Ok(_) => Some(format!("{} answers", member.endpoint)),
        Err(NoAnswer::Unreachable(_)) => None,
        Err(why) => Some(format!("{} {why}", member.endpoint)),
    }
}

/// Begins a timeline with this server, unless an earlier run has. Later transactions of the old
/// timeline stay on that.
async fn begin_timeline(recovery: &Recovery<'_>, uuid: ServerUuid, held: &GtidSet, of: u32) -> Result<u32> {
    let begun = |archive: &Archive| {
        archive
            .current()
            .filter(|timeline| timeline.source == uuid && timeline.parent.is_some())
            .map(|timeline| timeline.number)
    };
    if let Some(number) = begun(&recovery.archive.contents().await?) {
        return Ok(number);
    }
    let claim = recovery.repository.acquire_archive_lease(&recovery.request.shard).await;
    let writer = claim.map_err(|error| match error.kind {
        ErrorKind::Held => error
            .hint(format!("stop the archiver of shard {}, then repeat this command", recovery.request.shard)),
        _ => error,
    })?;
    writer.seal_tail().await?;
    let archive = recovery.archive.contents().await?;
    let left = archive.held(of).unwrap_or_default().subtract(held);
    let number = writer.begin_timeline(uuid, held, &left, recovery.ctx.host.clock.now()).await?;
    writer.release().await?;
    if !left.is_empty() {
        recovery.ctx.reporter.notice(&format!(
            "timeline {of} of the archive keeps the transactions that are left behind: {left}"
        ));
    }
    Ok(number)
}

/// Makes the server accept writes, from now on and after a restart.
async fn make_writable(
    recovery: &Recovery<'_>,
    session: &mut dyn AdminSession,
    manifest: &Manifest,
    decided: &RecoveryDecision,
) -> Result<()> {
    option_file::write(recovery, manifest, decided, Phase::Serving(ReadOnly::Off)).await?;
    session.set_super_read_only(ReadOnly::Off).await
}
