//! Plan: which backup a recovery would come from, and every step it would take. Reads the catalog only.

use std::path::PathBuf;

use backstop_model::backup::Sizes;
use backstop_model::fault::{Fault, Result};
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::plan::{Ending, Known, PlanRequest, RecoveryPlan, choose_backup, recovery_plan};
use backstop_model::target::Target;
use backstop_repo::{CatalogEntry, Reader};

/// What a plan is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose backup.
    pub shard: ShardName,
    /// The moment.
    pub target: Target,
    /// A certain backup.
    pub backup: Option<BackupId>,
    /// The target directory, if it is known yet.
    pub into: Option<PathBuf>,
    /// TCP port, if it was named.
    pub port: Option<u16>,
    /// How the recovery ends.
    pub ending: Ending,
}

/// Plans a recovery.
///
/// # Errors
/// [`Kind::NotRecoverable`](backstop_model::fault::Kind::NotRecoverable) with the nearest moments that can be reached.
pub async fn plan(reader: &Reader, wanted: &Wanted) -> Result<RecoveryPlan> {
    let catalog = reader.catalog().await?;
    let known: Vec<Known> = catalog.iter().map(known).collect();
    let chosen =
        choose_backup(&wanted.shard, &known, &wanted.target, wanted.backup.as_ref()).map_err(Fault::from)?;
    let entry = catalog.iter().find(|entry| entry.facts.backup_id == chosen.backup.backup_id);
    let request = PlanRequest {
        shard: wanted.shard.clone(),
        target: wanted.target.clone(),
        into: wanted.into.clone(),
        port: wanted.port,
        ending: wanted.ending,
        sizes: entry.map_or(Sizes::default(), |entry| entry.sizes),
    };
    Ok(recovery_plan(&request, &chosen))
}

fn known(entry: &CatalogEntry) -> Known {
    Known {
        backup_id: entry.facts.backup_id.clone(),
        taken_at: entry.facts.taken_at,
        gtid_executed: entry.facts.gtid_executed.clone(),
    }
}
