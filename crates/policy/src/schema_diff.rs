//! Compares the tables of a member with those of the primary, by name only, not by content.

use std::collections::BTreeSet;

use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ShardName};

/// Number of tables named in one sentence.
const MAX_NAMED_TABLES: usize = 5;

/// The schemas and tables of a server at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableInventory {
    /// Its schemas (`shop`), tables and views (`shop.orders`), without those of the server itself.
    pub names: BTreeSet<String>,
    /// The GTIDs executed when all of these existed.
    pub executed: GtidSet,
}

/// Difference between a member and its primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaDifference {
    /// Only the primary has these.
    pub missing: BTreeSet<String>,
    /// Only the member has these.
    pub extra: BTreeSet<String>,
}

impl SchemaDifference {
    /// Compares a member with its primary, which was queried before and after it: tables that the
    /// primary created or dropped in between are not a difference.
    pub fn between(before: &TableInventory, member: &TableInventory, after: &TableInventory) -> Self {
        let missing = before.names.intersection(&after.names).filter(|name| !member.names.contains(*name));
        let extra =
            member.names.iter().filter(|name| !before.names.contains(*name) && !after.names.contains(*name));
        Self { missing: missing.cloned().collect(), extra: extra.cloned().collect() }
    }

    /// Returns the differences that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            missing: self.missing.intersection(&other.missing).cloned().collect(),
            extra: self.extra.intersection(&other.extra).cloned().collect(),
        }
    }

    /// True if there is no difference.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty()
    }

    /// Returns a finding on the difference.
    pub fn finding(&self, shard: &ShardName, member: &Endpoint, primary: &Endpoint) -> Finding {
        if self.is_empty() {
            let what = format!(
                "{member} has the schemas and tables of the primary {primary}; their contents were not compared"
            );
            return Finding::ok("tables-compared", what);
        }
        let parts = [(&self.missing, "lacks"), (&self.extra, "also has")];
        let parts = parts.into_iter().filter(|(names, _)| !names.is_empty());
        let parts: Vec<String> = parts.map(|(names, verb)| format!("{verb} {}", told(names))).collect();
        Finding::problem(
            "tables-differ",
            format!(
                "{member} differs from the primary {primary} at the same GTID set: it {}",
                parts.join(", and ")
            ),
            format!(
                "find out why (filters, sql_log_bin = 0, skipped errors), rebuild it from a backup of the primary \
                 (`backstop recover {shard} --to latest --join`), and back up again"
            ),
        )
    }
}

/// Returns the finding for a comparison that was not possible.
pub fn not_compared_finding(member: &Endpoint, why: &str) -> Finding {
    Finding::warning(
        "tables-not-compared",
        format!("the tables of {member} were not compared with the primary's: {why}"),
        "compare them with `backstop check` once the primary answers and the member keeps up",
    )
}

fn told(names: &BTreeSet<String>) -> String {
    let first: Vec<&str> = names.iter().take(MAX_NAMED_TABLES).map(String::as_str).collect();
    match names.len().saturating_sub(MAX_NAMED_TABLES) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::finding::Severity;

    use super::*;

    fn tables(names: &str) -> TableInventory {
        let names = names.split_whitespace().map(str::to_owned).collect();
        TableInventory { names, executed: GtidSet::new() }
    }

    fn said(before: &str, member: &str, after: &str) -> Finding {
        let (member_at, primary) = (Endpoint::new("db2", 3306), Endpoint::new("db1", 3306));
        let difference = SchemaDifference::between(&tables(before), &tables(member), &tables(after));
        difference.finding(&"orders".parse().unwrap(), &member_at, &primary)
    }

    #[test]
    fn differing_names_are_reported() {
        assert_eq!(said("a a.t b", "a a.t b", "a a.t b").severity, Severity::Ok);
        let differs = said("a a.t b b.t", "a a.t a.x", "a a.t b b.t");
        assert_eq!(differs.severity, Severity::Problem);
        assert!(differs.what.ends_with("it lacks b, b.t, and also has a.x"), "{}", differs.what);
        let many = said("a b c d e f g", "", "a b c d e f g");
        assert!(many.what.ends_with("it lacks a, b, c, d, e and 2 more"), "{}", many.what);
    }

    #[test]
    fn ddl_between_reads_is_no_difference() {
        for (before, member, after) in
            [("a", "a b", "a b"), ("a b", "a", "a"), ("a b", "a b", "a"), ("a", "a", "a b")]
        {
            assert_eq!(said(before, member, after).severity, Severity::Ok, "{before} / {member} / {after}");
        }
    }

    #[test]
    fn difference_counts_only_if_seen_twice() {
        let one = SchemaDifference::between(&tables("a b c"), &tables("a"), &tables("a b c"));
        let two = SchemaDifference::between(&tables("a b d"), &tables("a d"), &tables("a b d"));
        assert_eq!(one.and(&two).missing, tables("b").names);
    }
}
