//! GTID sets, with tags, and their arithmetic.
//!
//! The text form is MySQL's: `uuid[:interval]…[:tag[:interval]…]…`, several UUIDs separated by
//! commas. The arithmetic agrees with the server's `GTID_SUBSET` and `GTID_SUBTRACT` (tested
//! against a real server).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::ServerUuid;

/// Error: the text is not a GTID or a GTID set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is not a GTID set: {reason}")]
pub struct InvalidGtid {
    /// The part that could not be parsed.
    pub part: String,
    /// The reason.
    pub reason: &'static str,
}

/// Source of a transaction: a server UUID and an optional tag (empty for none).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid {
    /// The source's UUID.
    pub uuid: Uuid,
    /// The tag in lower case, empty for untagged transactions.
    pub tag: String,
}

/// Identifier of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    /// Its source.
    pub sid: Sid,
    /// Its number, from 1.
    pub number: u64,
}

/// A set of GTIDs: for each [`Sid`] sorted, disjoint, non-adjacent intervals `start..end` (end
/// exclusive).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet {
    intervals: BTreeMap<Sid, Vec<(u64, u64)>>,
}

/// Largest transaction number MySQL assigns (2^63 - 2).
const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

impl GtidSet {
    /// Returns the empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Returns the number of transactions in the set.
    pub fn count(&self) -> u64 {
        self.intervals.values().flatten().map(|(start, end)| end - start).sum()
    }

    /// Adds one transaction.
    pub fn insert(&mut self, gtid: &Gtid) {
        self.insert_interval(gtid.sid.clone(), gtid.number, gtid.number + 1);
    }

    /// Adds `start..end` (end exclusive) of one source. An empty interval adds nothing.
    pub fn insert_interval(&mut self, sid: Sid, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let list = self.intervals.entry(sid).or_default();
        let from = list.partition_point(|&(_, e)| e < start);
        let to = list.partition_point(|&(s, _)| s <= end);
        let merged = list[from..to].iter().fold((start, end), |(s, e), &(a, b)| (s.min(a), e.max(b)));
        list.splice(from..to, [merged]);
    }

    /// True if the transaction is in the set.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.intervals.get(&gtid.sid).is_some_and(|list| {
            let i = list.partition_point(|&(_, end)| end <= gtid.number);
            list.get(i).is_some_and(|&(start, _)| start <= gtid.number)
        })
    }

    /// Returns all transactions that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (sid, start, end) in other.iter() {
            all.insert_interval(sid.clone(), start, end);
        }
        all
    }

    /// Returns the transactions in `self` that are not in `other`: the server's
    /// `GTID_SUBTRACT(self, other)`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (sid, list) in &self.intervals {
            let holes = other.intervals.get(sid).map_or(&[][..], Vec::as_slice);
            let kept = subtract_intervals(list, holes);
            if !kept.is_empty() {
                rest.intervals.insert(sid.clone(), kept);
            }
        }
        rest
    }

    /// Returns the transactions that are in both sets.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.subtract(&self.subtract(other))
    }

    /// True if `other` contains the set: the server's `GTID_SUBSET(self, other)`.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.subtract(other).is_empty()
    }

    /// Iterates over all intervals as `(source, start, end)`, end exclusive, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Sid, u64, u64)> {
        self.intervals.iter().flat_map(|(sid, list)| list.iter().map(move |&(start, end)| (sid, start, end)))
    }

    /// Returns the source UUIDs that occur in the set, each once.
    pub fn uuids(&self) -> Vec<ServerUuid> {
        let mut all: Vec<_> = self.intervals.keys().map(|sid| ServerUuid(sid.uuid)).collect();
        all.dedup();
        all
    }

    /// Returns the transactions of one source UUID, with all its tags.
    #[must_use]
    pub fn of_uuid(&self, uuid: ServerUuid) -> Self {
        let intervals = self.intervals.iter().filter(|(sid, _)| sid.uuid == uuid.0);
        Self { intervals: intervals.map(|(sid, list)| (sid.clone(), list.clone())).collect() }
    }
}

/// Subtracts `holes` from `list`; both are sorted and disjoint.
fn subtract_intervals(list: &[(u64, u64)], holes: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut kept = Vec::new();
    let mut next_hole = 0;
    for &(start, end) in list {
        let mut from = start;
        while let Some(&(hole_start, hole_end)) = holes.get(next_hole) {
            if hole_start >= end {
                break;
            }
            if hole_start > from {
                kept.push((from, hole_start));
            }
            from = from.max(hole_end);
            if hole_end > end {
                break; // the hole reaches into the next interval: keep it
            }
            next_hole += 1;
        }
        if from < end {
            kept.push((from, end));
        }
    }
    kept
}

fn bad(part: &str, reason: &'static str) -> InvalidGtid {
    InvalidGtid { part: part.to_owned(), reason }
}

fn parse_tag(text: &str) -> Option<String> {
    let tag = text.to_ascii_lowercase();
    let first = tag.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let rest = tag.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    (first && rest && tag.len() <= 32).then_some(tag)
}

fn parse_number(text: &str) -> Result<u64, InvalidGtid> {
    match text.trim().parse::<u64>() {
        Ok(n) if (1..=MAX_NUMBER).contains(&n) => Ok(n),
        _ => Err(bad(text, "a transaction number is between 1 and 9223372036854775806")),
    }
}

fn parse_interval(text: &str) -> Result<(u64, u64), InvalidGtid> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (parse_number(first)?, parse_number(last)?),
        None => {
            let only = parse_number(text)?;
            (only, only)
        }
    };
    // MySQL reads an interval whose end precedes its start as empty.
    Ok((first, last + 1))
}

impl FromStr for GtidSet {
    type Err = InvalidGtid;

    fn from_str(text: &str) -> Result<Self, InvalidGtid> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().unwrap_or_default();
            let uuid = Uuid::try_parse(uuid).map_err(|_| bad(part, "it must start with a server UUID"))?;
            let mut sid = Sid { uuid, tag: String::new() };
            let mut intervals = 0;
            for field in fields {
                if let Some(tag) = parse_tag(field) {
                    sid.tag = tag;
                } else {
                    let (start, end) = parse_interval(field)?;
                    set.insert_interval(sid.clone(), start, end);
                    intervals += 1;
                }
            }
            if intervals == 0 {
                return Err(bad(part, "it has no transaction numbers"));
            }
        }
        Ok(set)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last: Option<Uuid> = None;
        for (sid, list) in &self.intervals {
            if last != Some(sid.uuid) {
                let comma = if last.is_some() { "," } else { "" };
                write!(f, "{comma}{}", sid.uuid.hyphenated())?;
                last = Some(sid.uuid);
            }
            if !sid.tag.is_empty() {
                write!(f, ":{}", sid.tag)?;
            }
            for &(start, end) in list {
                if end - start == 1 {
                    write!(f, ":{start}")?;
                } else {
                    write!(f, ":{start}-{}", end - 1)?;
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for GtidSet {
    type Error = InvalidGtid;
    fn try_from(text: String) -> Result<Self, InvalidGtid> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> String {
        set.to_string()
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.sid.uuid.hyphenated())?;
        if !self.sid.tag.is_empty() {
            write!(f, "{}:", self.sid.tag)?;
        }
        write!(f, "{}", self.number)
    }
}

impl FromStr for Gtid {
    type Err = InvalidGtid;

    fn from_str(text: &str) -> Result<Self, InvalidGtid> {
        let set: GtidSet = text.parse()?;
        let mut all = set.iter();
        match (all.next(), all.next()) {
            (Some((sid, start, end)), None) if end - start == 1 => {
                Ok(Self { sid: sid.clone(), number: start })
            }
            _ => Err(bad(text, "expected exactly one transaction, uuid:number or uuid:tag:number")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    #[test]
    fn gtid_sets_parse_and_print_like_the_servers() {
        for text in ["", "A:1", "A:1-5", "A:1-5:7-9", "A:1-5,B:3", "A:1-5:blue:1-3:7:red:2,B:x:1"] {
            assert_eq!(set(text).to_string(), text.replace('A', A).replace('B', B));
        }
        assert_eq!(set("A:5:1-3:4 ,\n B:2").to_string(), set("A:1-5,B:2").to_string());
        for text in ["x", "A", "A:0", "A:1-", "A:tag", "A:-1", "A:9223372036854775807", "A:1-2-3"] {
            assert!(text.replace('A', A).parse::<GtidSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn gtid_sets_are_added_subtracted_and_compared() {
        assert_eq!(set("A:1-9").subtract(&set("A:3-4:7")), set("A:1-2:5-6:8-9"));
        assert_eq!(set("A:1-3:5-9").subtract(&set("A:2-6")), set("A:1:7-9"));
        assert_eq!(set("A:1-3").union(&set("A:4-6,B:1")), set("A:1-6,B:1"));
        assert!(set("A:2-3").is_subset_of(&set("A:1-5")));
        assert!(!set("A:2:t:1").is_subset_of(&set("A:1-5")));
        assert_eq!(set("A:1-5:t:3,B:2").count(), 7);
        assert_eq!(set("A:1-5:t:3,B:2").of_uuid(A.parse().unwrap()), set("A:1-5:t:3"));
    }

    /// Generates the same transactions as a set and as plain values.
    fn history() -> impl Strategy<Value = (GtidSet, BTreeSet<Gtid>)> {
        let gtid = (prop::sample::select(vec![A, B]), prop::sample::select(vec!["", "blue"]), 1u64..30);
        proptest::collection::vec(gtid, 0..40).prop_map(|all| {
            let (mut set, mut plain) = (GtidSet::new(), BTreeSet::new());
            for (uuid, tag, number) in all {
                let gtid = Gtid { sid: Sid { uuid: uuid.parse().unwrap(), tag: tag.to_owned() }, number };
                set.insert(&gtid);
                plain.insert(gtid);
            }
            (set, plain)
        })
    }

    fn plain(set: &GtidSet) -> BTreeSet<Gtid> {
        let numbers =
            set.iter().flat_map(|(sid, start, end)| (start..end).map(move |number| (sid.clone(), number)));
        numbers.map(|(sid, number)| Gtid { sid, number }).collect()
    }

    proptest! {
        #[test]
        fn gtid_arithmetic_agrees_with_plain_sets((a, plain_a) in history(), (b, plain_b) in history()) {
            prop_assert_eq!(plain(&a.union(&b)), plain_a.union(&plain_b).cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(plain(&a.subtract(&b)), plain_a.difference(&plain_b).cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(plain(&a.intersect(&b)), plain_a.intersection(&plain_b).cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(a.is_subset_of(&b), plain_a.is_subset(&plain_b));
            prop_assert_eq!(a.count(), plain_a.len() as u64);
            prop_assert!(plain_b.iter().all(|gtid| a.contains(gtid) == plain_a.contains(gtid)));
            prop_assert_eq!(a.to_string().parse::<GtidSet>().unwrap(), a);
        }
    }
}
