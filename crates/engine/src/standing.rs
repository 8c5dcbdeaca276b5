//! How backups stand now. What is kept outside of the repository (EBS snapshots) is asked for, by everyone who says that
//! something can be recovered; what cannot be asked is said to be so.

use std::collections::BTreeMap;

use backstop_model::fault::{Kind, Result};
use backstop_model::plan::Known;
use backstop_model::report::EbsSnapshots;
use backstop_model::standing::Standing;
use backstop_repo::{CatalogEntry, Reader};
use futures::{StreamExt, TryStreamExt};

use crate::backup::ebs;
use crate::plan::known;
use crate::ports::VolumeSnapshots;

/// Manifests that are read together.
const PARALLEL: usize = 8;

/// How one backup stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Stand {
    /// What is known of it.
    pub standing: Standing,
    /// The EBS snapshots its data is in, with their state if it was told; `None`: it is in the repository.
    pub ebs: Option<EbsSnapshots>,
}

impl Stand {
    fn sound() -> Self {
        Self { standing: Standing::Sound, ebs: None }
    }
}

/// These backups as a plan knows them, each with its standing, in their order.
///
/// # Errors
/// As [`stands`].
pub async fn standings(
    reader: &Reader,
    entries: &[CatalogEntry],
    volumes: &dyn VolumeSnapshots,
) -> Result<Vec<(Known, Standing)>> {
    let stands = stands(reader, entries, volumes).await?;
    Ok(entries.iter().map(known).zip(stands.into_iter().map(|stand| stand.standing)).collect())
}

/// How these backups stand, in their order.
///
/// # Errors
/// The repository's. That EC2 does not answer is an answer: [`Standing::Unasked`].
pub async fn stands(
    reader: &Reader,
    entries: &[CatalogEntry],
    volumes: &dyn VolumeSnapshots,
) -> Result<Vec<Stand>> {
    let looks = entries.iter().map(|entry| placed(reader, entry));
    let mut stands: Vec<Stand> = futures::stream::iter(looks).buffered(PARALLEL).try_collect().await?;
    for (region, at) in by_region(&stands) {
        let sets: Vec<Vec<String>> = at.iter().map(|index| snapshot_ids(&stands[*index])).collect();
        match volumes.states(&sets, &region).await {
            Ok(states) => {
                for ((index, state), ids) in at.iter().zip(states).zip(&sets) {
                    let stand = &mut stands[*index];
                    stand.standing = Standing::of(state, ids);
                    stand.ebs.iter_mut().for_each(|ebs| ebs.state = Some(state));
                }
            }
            Err(fault) => {
                for index in at {
                    stands[index].standing = Standing::Unasked(fault.message.clone());
                }
            }
        }
    }
    // What a verification found stands until a later one finds it whole.
    let damaged = reader.found().await?.backups();
    for (entry, stand) in entries.iter().zip(&mut stands) {
        if let Some(why) = damaged.get(&entry.facts.backup_id) {
            stand.standing = Standing::Lost(why.clone());
        }
    }
    Ok(stands)
}

/// Where a backup's data is. One in EBS cannot be found without its manifest.
async fn placed(reader: &Reader, entry: &CatalogEntry) -> Result<Stand> {
    if !entry.facts.lineage.is_ebs() {
        return Ok(Stand::sound());
    }
    match reader.storage_of(entry).await {
        Ok(storage) => Ok(Stand { ebs: ebs(storage, None), ..Stand::sound() }),
        Err(fault) if matches!(fault.kind, Kind::Damaged | Kind::NotRecoverable) => {
            Ok(Stand { standing: Standing::Lost(fault.message), ebs: None })
        }
        Err(fault) => Err(fault),
    }
}

/// Those whose state is to be asked, by region.
fn by_region(stands: &[Stand]) -> BTreeMap<String, Vec<usize>> {
    let mut regions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, stand) in stands.iter().enumerate() {
        if let Some(ebs) = &stand.ebs {
            regions.entry(ebs.region.clone()).or_default().push(index);
        }
    }
    regions
}

fn snapshot_ids(stand: &Stand) -> Vec<String> {
    stand.ebs.as_ref().map(|ebs| ebs.snapshot_ids.clone()).unwrap_or_default()
}
