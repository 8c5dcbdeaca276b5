//! Damage found by verifications: recorded in the repository for all readers, until a later
//! verification finds the object whole.

use std::collections::{BTreeMap, BTreeSet};

use backstop_types::error::{Error, Result};
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::encrypted_store::EncryptedStore;
use crate::object::{ExpectedObject, ObjectError, ObjectKind};
use crate::{ObjectDamage, VerifyDepth};

/// Number of damaged objects that are recorded by name; of the others, only the backups are.
const MAX_NAMED_OBJECTS: usize = 1000;

/// Damaged object, as a verification found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedObjectRecord {
    /// Its key.
    pub object: String,
    /// Description of the damage.
    pub wrong: String,
    /// True if only reading the content reveals it.
    pub in_content: bool,
    /// Backups that cannot be restored completely.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<BackupId>,
    /// Time of the finding, by the clock of the verifying host.
    pub at: DateTime<Utc>,
}

/// Known damage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageRecord {
    /// Damaged objects, at most a thousand.
    pub damaged: Vec<DamagedObjectRecord>,
    /// Number of further damaged objects.
    #[serde(default)]
    pub more: u64,
    /// Backups that those affect.
    #[serde(default)]
    pub more_backups: BTreeSet<BackupId>,
}

impl DamageRecord {
    /// Returns true if no damage is known.
    pub fn is_empty(&self) -> bool {
        self.damaged.is_empty() && self.more == 0
    }

    /// Returns the backups that cannot be restored completely, each with one reason.
    pub fn backups(&self) -> BTreeMap<BackupId, String> {
        let more = self.more_backups.iter().map(|id| (id.clone(), "one of many damaged objects".to_owned()));
        let mut all: BTreeMap<BackupId, String> = more.collect();
        for damage in &self.damaged {
            let reason = || {
                let at = damage.at.format("%Y-%m-%dT%H:%M:%SZ");
                format!("{}: {} (`backstop verify` found it at {at})", damage.object, damage.wrong)
            };
            for id in &damage.backups {
                all.entry(id.clone()).or_insert_with(reason);
            }
        }
        all
    }

    /// Combines the findings of one verification with the earlier damage that it could not see:
    /// damage inside objects whose content it did not read.
    fn after(before: Self, found: &[ObjectDamage], depth: VerifyDepth, at: DateTime<Utc>) -> Self {
        let fresh = found.iter().map(|damage| DamagedObjectRecord {
            object: damage.object.clone(),
            wrong: damage.wrong.clone(),
            in_content: depth == VerifyDepth::Content,
            backups: damage.backups.clone(),
            at,
        });
        let mut all: BTreeMap<String, DamagedObjectRecord> = BTreeMap::new();
        if depth == VerifyDepth::Objects {
            let unseen = before.damaged.into_iter().filter(|damage| damage.in_content);
            all.extend(unseen.map(|damage| (damage.object.clone(), damage)));
        }
        all.extend(fresh.map(|damage| (damage.object.clone(), damage)));
        let mut damaged: Vec<DamagedObjectRecord> = all.into_values().collect();
        let rest = damaged.split_off(damaged.len().min(MAX_NAMED_OBJECTS));
        let more_backups = rest.iter().flat_map(|damage| damage.backups.iter().cloned()).collect();
        Self { damaged, more: rest.len() as u64, more_backups }
    }
}

/// Reads the known damage. An unreadable record counts as empty: the next verification writes
/// another.
pub(crate) async fn read_damage(store: &EncryptedStore, key: &str) -> Result<DamageRecord> {
    match store.get(ExpectedObject { kind: ObjectKind::Found, key, reference: None }).await {
        Ok(found) => Ok(found),
        Err(ObjectError::Missing { .. }) => Ok(DamageRecord::default()),
        Err(ObjectError::Store(error)) => Err(error),
        Err(error) => {
            tracing::warn!("{}: the damage that earlier verifications found is unknown", Error::from(error));
            Ok(DamageRecord::default())
        }
    }
}

/// Records the findings of a verification. Writes nothing if nothing was known and nothing was
/// found.
pub(crate) async fn record_damage(
    store: &EncryptedStore,
    key: &str,
    found: &[ObjectDamage],
    depth: VerifyDepth,
    at: DateTime<Utc>,
) -> Result<DamageRecord> {
    let before = read_damage(store, key).await?;
    let mut after = DamageRecord::after(before.clone(), found, depth, at);
    let mut gone = BTreeSet::new();
    for damage in after.damaged.iter().filter(|damage| damage.at != at) {
        // An object that no backup needs may have been removed since; a missing object that one
        // needs is among the new findings.
        if store.size(&damage.object).await?.is_none() {
            gone.insert(damage.object.clone());
        }
    }
    after.damaged.retain(|damage| !gone.contains(&damage.object));
    if after != before {
        store.put(ObjectKind::Found, key, &after).await?;
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(object: &str, nth: u32) -> ObjectDamage {
        let backups = vec![BackupId::new(DateTime::UNIX_EPOCH, nth)];
        ObjectDamage { object: object.to_owned(), wrong: "it is missing".to_owned(), backups }
    }

    fn objects(found: &DamageRecord) -> Vec<&str> {
        found.damaged.iter().map(|damage| damage.object.as_str()).collect()
    }

    #[test]
    fn check_of_sizes_keeps_damage_found_in_content() {
        let (one, two) = ([damage("a", 1)], [damage("b", 2)]);
        let at = DateTime::UNIX_EPOCH;
        let first = DamageRecord::after(DamageRecord::default(), &one, VerifyDepth::Content, at);
        let second = DamageRecord::after(first.clone(), &two, VerifyDepth::Objects, at);
        assert_eq!(objects(&second), ["a", "b"]);
        assert_eq!(objects(&DamageRecord::after(second.clone(), &[], VerifyDepth::Objects, at)), ["a"]);
        assert!(DamageRecord::after(second, &[], VerifyDepth::Content, at).is_empty());
    }

    #[test]
    fn damage_record_is_bounded_and_names_every_backup() {
        let many: Vec<ObjectDamage> = (0..3000).map(|nth| damage(&format!("{nth:06}"), nth)).collect();
        let found =
            DamageRecord::after(DamageRecord::default(), &many, VerifyDepth::Objects, DateTime::UNIX_EPOCH);
        assert_eq!((found.damaged.len(), found.more, found.backups().len()), (MAX_NAMED_OBJECTS, 2000, 3000));
    }
}
