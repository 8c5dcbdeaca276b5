//! What verifications found damaged: kept in the repository, so that everybody knows of it until a later one finds it whole.

use std::collections::{BTreeMap, BTreeSet};

use backstop_model::fault::{Fault, Result};
use backstop_model::ids::BackupId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::object::{Expected, ObjectFault, ObjectKind};
use crate::shelf::Shelf;
use crate::{Damage, Depth};

/// So many damaged objects are named; of the others only the backups are.
const MOST: usize = 1000;

/// A damaged object, as a verification found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDamage {
    /// Its key.
    pub object: String,
    /// What is wrong with it.
    pub wrong: String,
    /// True if only reading its content shows it.
    pub in_content: bool,
    /// The backups that cannot be restored completely.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<BackupId>,
    /// When it was found, by the finder's clock.
    pub at: DateTime<Utc>,
}

/// What is known to be damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The objects, but not more than a thousand.
    pub damaged: Vec<KnownDamage>,
    /// How many more there are.
    #[serde(default)]
    pub more: u64,
    /// The backups that those affect.
    #[serde(default)]
    pub more_backups: BTreeSet<BackupId>,
}

impl Found {
    /// True if nothing is.
    pub fn is_empty(&self) -> bool {
        self.damaged.is_empty() && self.more == 0
    }

    /// The backups that cannot be restored completely, each with one reason.
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

    /// What one verification found, and what it could not see of what was known before: damage within an object whose content it did not
    /// read.
    fn after(before: Self, found: &[Damage], depth: Depth, at: DateTime<Utc>) -> Self {
        let fresh = found.iter().map(|damage| KnownDamage {
            object: damage.object.clone(),
            wrong: damage.wrong.clone(),
            in_content: depth == Depth::Content,
            backups: damage.backups.clone(),
            at,
        });
        let mut all: BTreeMap<String, KnownDamage> = BTreeMap::new();
        if depth == Depth::Objects {
            let unseen = before.damaged.into_iter().filter(|damage| damage.in_content);
            all.extend(unseen.map(|damage| (damage.object.clone(), damage)));
        }
        all.extend(fresh.map(|damage| (damage.object.clone(), damage)));
        let mut damaged: Vec<KnownDamage> = all.into_values().collect();
        let rest = damaged.split_off(damaged.len().min(MOST));
        let more_backups = rest.iter().flat_map(|damage| damage.backups.iter().cloned()).collect();
        Self { damaged, more: rest.len() as u64, more_backups }
    }
}

/// What is known. A record that cannot be read says nothing: the next verification writes another.
pub(crate) async fn read(shelf: &Shelf, key: &str) -> Result<Found> {
    match shelf.get(Expected { kind: ObjectKind::Found, key, reference: None }).await {
        Ok(found) => Ok(found),
        Err(ObjectFault::Missing { .. }) => Ok(Found::default()),
        Err(ObjectFault::Store(fault)) => Err(fault),
        Err(fault) => {
            tracing::warn!("{}: what verifications found before is not known", Fault::from(fault));
            Ok(Found::default())
        }
    }
}

/// Writes down what a verification found. Nothing is written where nothing was known and nothing was found.
pub(crate) async fn note(
    shelf: &Shelf,
    key: &str,
    found: &[Damage],
    depth: Depth,
    at: DateTime<Utc>,
) -> Result<Found> {
    let before = read(shelf, key).await?;
    let mut after = Found::after(before.clone(), found, depth, at);
    let mut gone = BTreeSet::new();
    for damage in after.damaged.iter().filter(|damage| damage.at != at) {
        // Objects that no one needs any more were removed since; one that is needed and gone was found just now.
        if shelf.size(&damage.object).await?.is_none() {
            gone.insert(damage.object.clone());
        }
    }
    after.damaged.retain(|damage| !gone.contains(&damage.object));
    if after != before {
        shelf.put(ObjectKind::Found, key, &after).await?;
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(object: &str, nth: u32) -> Damage {
        let backups = vec![BackupId::new(DateTime::UNIX_EPOCH, nth)];
        Damage { object: object.to_owned(), wrong: "it is missing".to_owned(), backups }
    }

    fn objects(found: &Found) -> Vec<&str> {
        found.damaged.iter().map(|damage| damage.object.as_str()).collect()
    }

    #[test]
    fn a_look_at_sizes_keeps_what_only_the_content_shows() {
        let (one, two) = ([damage("a", 1)], [damage("b", 2)]);
        let at = DateTime::UNIX_EPOCH;
        let first = Found::after(Found::default(), &one, Depth::Content, at);
        let second = Found::after(first.clone(), &two, Depth::Objects, at);
        assert_eq!(objects(&second), ["a", "b"]);
        assert_eq!(objects(&Found::after(second.clone(), &[], Depth::Objects, at)), ["a"]);
        assert!(Found::after(second, &[], Depth::Content, at).is_empty());
    }

    #[test]
    fn a_record_is_bounded_and_still_names_every_backup() {
        let many: Vec<Damage> = (0..3000).map(|nth| damage(&format!("{nth:06}"), nth)).collect();
        let found = Found::after(Found::default(), &many, Depth::Objects, DateTime::UNIX_EPOCH);
        assert_eq!((found.damaged.len(), found.more, found.backups().len()), (MOST, 2000, 3000));
    }
}
