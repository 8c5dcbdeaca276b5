//! A recovered instance as the shard's new primary, after all its servers were lost.

use backstop_model::archive::Archive;
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use backstop_model::topology::{Member, Unusable};

use super::{Decided, MembersThatAnswer, Recover, join, server};
use crate::journal::Steps;
use crate::ports::{ReadOnly, RecoveredSession};

/// Checks that nobody of the shard answers. Gives a server id.
pub(super) async fn possible(r: &Recover<'_>) -> Result<u32> {
    let members = alone(r).await?;
    Ok(join::server_id(r.world, &members))
}

/// Makes it the primary: the last things that are done, and writable only then.
pub(super) async fn promote(
    r: &Recover<'_>,
    steps: &mut Steps<'_>,
    session: &mut dyn RecoveredSession,
    decided: &Decided,
) -> Result<()> {
    r.world.step("alone", alone(r)).await?;
    if let Some(current) = r.archive.contents().await?.current() {
        let of = decided.replay.as_ref().map_or(current.number, |replay| replay.line);
        let (uuid, held) = (session.server_uuid().await?, session.gtid_executed().await?);
        steps.once("begin_line", begin_line(r, uuid, &held, of)).await?;
    }
    steps.again("promote", writable(r, session)).await
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
async fn writable(r: &Recover<'_>, session: &mut dyn RecoveredSession) -> Result<()> {
    let path = server::layout(&r.request).defaults_file;
    let what = format!("write {}", path.display());
    let text = std::fs::read_to_string(&path).failed(&what)?;
    let text = text.replace("\nsuper_read_only = ON\n", "\nsuper_read_only = OFF\n");
    super::configure::write_private(&path, &text)?;
    if let Some(user) = &r.request.server_user {
        r.programs.give(&path, user).await?;
    }
    session.set_super_read_only(ReadOnly::Off).await
}

/// What is left for the operator to do.
pub(super) fn next_steps(r: &Recover<'_>, options: &str, port: u16) -> Vec<String> {
    let shard = &r.request.shard;
    vec![
        format!(
            "it takes writes, on 127.0.0.1:{port} only: set bind_address in {options} and restart it to serve clients"
        ),
        format!("name it in the shard's `members` in place of those that were lost, then start `backstop archive {shard}`"),
        format!("back it up (`backstop backup {shard}`; `backstop shard adopt {shard}` first, if it is refused for a moment that was left behind on purpose), and make replicas: `backstop recover {shard} --to latest --into DIR --join`"),
        "if orchestrator watches the shard: `orchestrator-client -c forget-cluster -alias CLUSTER`, then `orchestrator-client -c discover -i HOST:PORT` with this server".to_owned(),
        "its events do not fire and semi-synchronous replication is off: set event_scheduler and run `backstop check --fix` when replicas follow".to_owned(),
        "keep the lost servers from coming back: one that starts again is a second primary".to_owned(),
    ]
}
