//! Checks before the archiver stores anything, its lease included: refuses a configuration that
//! cannot work.

use std::path::Path;

use backstop_config::settings::{ArchiveAck, ArchiveSettings};
use backstop_policy::stream_or_fork::stream_from;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::topology::Member;

use super::config::Encryption;
use super::config::ServerAccess;
use super::spool_journal;
use crate::context::RunContext;
use crate::disk::Disk;
use crate::ports::Topology;

/// Checks once if a shard can be archived with these settings.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] if the source's binlog lacks transactions that its GTID set
/// contains, if the source encrypts its binlog and the repository is not encrypted, if it has no
/// GTIDs, or if acknowledgements should come from a spool on a member's host; [`ErrorKind::Denied`]
/// if the account may not log in. A source that does not answer is no error: the archiver waits for
/// it.
pub async fn preflight(
    settings: &ArchiveSettings,
    topology: &dyn Topology,
    access: ServerAccess<'_>,
    encryption: Encryption,
    disk: &dyn Disk,
    spool: Option<&Path>,
    ctx: &RunContext,
) -> Result<()> {
    let members = ctx.unless_stopped(topology.members()).await;
    if settings.semi_sync && settings.ack == ArchiveAck::Spool {
        refuse_spool_on_source_host(members.as_ref().map_err(Clone::clone)?).await?;
    }
    if spool.map(|spool| spool_journal::has_any(disk, spool)).transpose()?.unwrap_or(false) {
        // The spooled transactions are archived in any case; the first round looks at the source.
        return Ok(());
    }
    let Ok(from) = members.and_then(|members| stream_from(settings.from, &members, None)) else {
        return Ok(());
    };
    from.refuse_unfit()?;
    match ctx.unless_stopped(access.open(&from)).await {
        Ok(source) => source.refuse_plain_text(encryption, &from),
        Err(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::Denied) => Err(error),
        Err(_) => Ok(()),
    }
}

/// Refuses a spool on the source's own disk, which is lost with it.
async fn refuse_spool_on_source_host(members: &[Member]) -> Result<()> {
    for member in members {
        if is_this_host(&member.endpoint.host).await {
            return Err(Error::refused(format!(
                "cannot acknowledge from the spool: {} is on this host, and the spool would be lost with it",
                member.endpoint
            ))
            .hint("run the archiver on a separate host, or set archive.ack = \"store\""));
        }
    }
    Ok(())
}

/// True if a host is this machine: one of its addresses can be bound.
async fn is_this_host(host: &str) -> bool {
    let Ok(addresses) = tokio::net::lookup_host((host, 0)).await else { return false };
    for address in addresses {
        if tokio::net::TcpListener::bind(address).await.is_ok() {
            return true;
        }
    }
    false
}
