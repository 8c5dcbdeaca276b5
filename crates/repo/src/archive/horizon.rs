//! Horizon of an archive: records the segments and indexes that pruning dropped.

use std::collections::BTreeSet;

use backstop_types::error::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::journal::ArchiveJournal;
use crate::keys;
use crate::object::{ExpectedObject, ObjectError, ObjectKind};

/// Record of the segments and indexes that pruning dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Horizon {
    /// Its number: each horizon holds all that the earlier ones do.
    pub(crate) number: u64,
    /// Numbers of segments, as spans.
    pub(crate) dropped: Vec<(u64, u64)>,
    /// Recently dropped segments, whose objects may still exist.
    pub(crate) recent: Vec<DroppedSegments>,
    /// Numbers of entries whose index was removed, as spans.
    pub(crate) gone: Vec<(u64, u64)>,
}

/// Segments that were dropped at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DroppedSegments {
    pub(crate) at: DateTime<Utc>,
    /// Numbers of segments, as spans.
    pub(crate) segments: Vec<(u64, u64)>,
}

impl Horizon {
    pub(crate) fn is_dropped(&self, number: u64) -> bool {
        within(&self.dropped, number)
    }

    pub(crate) fn is_recent(&self, number: u64) -> bool {
        self.recent.iter().any(|dropped| within(&dropped.segments, number))
    }

    /// Drops segments.
    pub(crate) fn drop(&mut self, numbers: &BTreeSet<u64>, at: DateTime<Utc>) {
        if numbers.is_empty() {
            return;
        }
        let segments = merge_spans(numbers.iter().map(|number| (*number, *number)));
        self.dropped = merge_spans(self.dropped.iter().chain(&segments).copied());
        self.recent.push(DroppedSegments { at, segments });
    }

    pub(crate) fn is_gone(&self, number: u64) -> bool {
        within(&self.gone, number)
    }

    /// Restores the segments that were dropped at times for which `young` holds, and returns their
    /// numbers.
    pub(crate) fn take_back(&mut self, young: &dyn Fn(DateTime<Utc>) -> bool) -> BTreeSet<u64> {
        let (back, stays): (Vec<_>, Vec<_>) =
            self.recent.iter().cloned().partition(|dropped| young(dropped.at));
        let numbers = back.iter().flat_map(|dropped| dropped.segments.iter().copied());
        let numbers: BTreeSet<u64> = numbers.flat_map(|(first, last)| first..=last).collect();
        self.recent = stays;
        let left = self.dropped.iter().flat_map(|(first, last)| *first..=*last);
        let left = left.filter(|number| !numbers.contains(number));
        self.dropped = merge_spans(left.map(|number| (number, number)));
        numbers
    }

    /// Records that the indexes of these entries were removed.
    pub(crate) fn go(&mut self, gone: Vec<(u64, u64)>) {
        self.gone = merge_spans(self.gone.iter().copied().chain(gone));
    }

    /// Returns the highest number that it knows of.
    pub(crate) fn newest(&self) -> u64 {
        self.gone.iter().chain(&self.dropped).map(|(_, last)| *last).max().unwrap_or(0)
    }
}

/// Sorts spans and joins those that touch.
fn merge_spans(all: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = all.collect();
    all.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in all {
        match joined.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn within(spans: &[(u64, u64)], number: u64) -> bool {
    spans.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// Returns the newest horizon.
pub(crate) async fn newest_horizon(journal: &ArchiveJournal) -> Result<Horizon> {
    let directory = journal.keys.horizons();
    for _ in 0..8 {
        let listed = journal.store.list(&directory).await?;
        let newest = listed.iter().filter_map(|(key, _)| keys::number_in(&directory, key)).next_back();
        let Some(number) = newest else { return Ok(Horizon::default()) };
        let key = journal.keys.horizon(number);
        match journal
            .store
            .get(ExpectedObject { kind: ObjectKind::Horizon, key: &key, reference: None })
            .await
        {
            // A newer one replaced it.
            Err(ObjectError::Missing { .. }) => {}
            read => return Ok(read?),
        }
    }
    Ok(Horizon::default())
}
