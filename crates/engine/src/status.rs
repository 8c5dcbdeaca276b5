//! Status: what a shard could be recovered to now, and what would be lost.

use backstop_model::fault::Result;
use backstop_model::finding::Finding;
use backstop_model::freshness::freshness;
use backstop_model::ids::ShardName;
use backstop_model::plan::Known;
use backstop_model::report::{Coverage, ShardStatus, rpo_seconds};
use backstop_model::schedule::Schedule;
use backstop_model::topology::{InstanceState, current_primary, fidelity_findings};
use backstop_repo::{ArchiveReader, CatalogEntry, Reader};

use crate::archive::{Archived, archive_health};
use crate::ports::Topology;
use crate::world::World;
use crate::{backup, plan};

/// What the status of one shard is made of.
pub struct Status<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// When it should be backed up.
    pub schedule: Option<&'a Schedule>,
    /// Its backups.
    pub reader: &'a Reader,
    /// Its members, for what the primary has that no backup has; without it the RPO is not known.
    pub topology: Option<&'a dyn Topology>,
    /// Its archive.
    pub archived: Archived<'a>,
    /// Time, reporter, stop.
    pub world: &'a World,
}

/// How a shard stands. A shard whose members do not answer still has a status.
///
/// # Errors
/// When the repository cannot be read.
pub async fn status(s: &Status<'_>) -> Result<ShardStatus> {
    let now = s.world.clock.now();
    let catalog = s.world.unless_stopped(s.reader.catalog()).await?;
    let newest = catalog.last();
    let taken_at = newest.map(|entry| entry.facts.taken_at);
    let mut findings = vec![freshness(taken_at, s.schedule, now).finding(s.shard)];
    let last = newest.map(|entry| (entry.facts.taken_at, &entry.facts.gtid_executed));
    let primary = primary(s, &mut findings).await;
    let archive = s.world.unless_stopped(archive_health(s.shard, &s.archived, primary.as_ref(), now)).await?;
    findings.extend(archive.findings);
    let coverage = s.world.unless_stopped(coverage(&s.archived.reader, &catalog)).await?;
    findings.extend(coverage.findings(s.shard));
    let of_backups = primary.and_then(|primary| rpo_seconds(last, &primary.gtid_executed, now));
    // A backup alone may be newer than an archive that is behind.
    let rpo = archive.rpo_seconds.into_iter().chain(of_backups).min_by(f64::total_cmp);
    Ok(ShardStatus {
        shard: s.shard.clone(),
        last_backup: newest.map(backup::report),
        coverage,
        rpo_seconds: rpo,
        rto_seconds: None,
        findings,
    })
}

/// What can be recovered from these backups and this archive.
///
/// # Errors
/// The store's.
pub async fn coverage(archive: &ArchiveReader, catalog: &[CatalogEntry]) -> Result<Coverage> {
    let known: Vec<Known> = catalog.iter().map(plan::known).collect();
    Ok(Coverage::of(&archive.checked().await?, &known))
}

async fn primary(s: &Status<'_>, findings: &mut Vec<Finding>) -> Option<InstanceState> {
    let topology = s.topology?;
    let members = match topology.look().await {
        Ok(members) => members,
        Err(fault) => {
            findings.push(unknown(s.shard, &fault.message));
            return None;
        }
    };
    findings.extend(fidelity_findings(s.shard, &members, s.archived.settings.is_some()));
    match current_primary(&members) {
        Ok((_, primary)) => Some(primary.clone()),
        Err(fault) => {
            findings.push(unknown(s.shard, &fault.message));
            None
        }
    }
}

fn unknown(shard: &ShardName, why: &str) -> Finding {
    Finding::warning(
        "rpo-unknown",
        format!("what shard {shard} would lose is not known: {why}"),
        format!("run `backstop check {shard}`"),
    )
}
