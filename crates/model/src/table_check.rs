//! Tables that their server cannot read, and what that means to a recovery.

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::ids::Endpoint;

/// So many tables are named.
const MAX_NAMED_TABLES: usize = 10;

/// A table that its server cannot read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BrokenTable {
    /// `schema.table`.
    pub table: String,
    /// Why, in the server's words.
    pub why: String,
}

/// The outcome of checking tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablesChecked {
    /// How many were checked.
    pub checked: u64,
    /// Those that are broken.
    pub broken: Vec<BrokenTable>,
}

/// Broken tables of a recovered server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableCheckVerdict {
    /// They were broken when the backup was taken, or the operator accepts that they are.
    pub known: Vec<BrokenTable>,
    /// Nothing explains them.
    pub unexpected: Vec<BrokenTable>,
}

/// Compares what is broken after a recovery with what the backup recorded and what the operator accepts (`schema.table`).
pub fn judge_tables(
    found: Vec<BrokenTable>,
    recorded: &[BrokenTable],
    accepted: &[String],
) -> TableCheckVerdict {
    let explained = |broken: &BrokenTable| {
        recorded.iter().any(|known| known.table == broken.table) || accepted.contains(&broken.table)
    };
    let (known, unexpected) = found.into_iter().partition(explained);
    TableCheckVerdict { known, unexpected }
}

/// A warning that names the broken tables of a server that is backed up; `None` if there are none.
pub fn source_finding(endpoint: &Endpoint, broken: &[BrokenTable]) -> Option<Finding> {
    (!broken.is_empty()).then(|| {
        Finding::warning(
            "tables-broken",
            format!("{endpoint} cannot read {}: no backup of it holds their rows", describe_tables(broken)),
            "finish the import (`ALTER TABLE … IMPORT TABLESPACE`), restore the table from another member, or drop it",
        )
    })
}

/// `table a.b (why), table c.d (why) and 3 more`.
pub fn describe_tables(broken: &[BrokenTable]) -> String {
    let named =
        broken.iter().take(MAX_NAMED_TABLES).map(|each| format!("table {} ({})", each.table, each.why));
    let named = named.collect::<Vec<_>>().join(", ");
    match broken.len().saturating_sub(MAX_NAMED_TABLES) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(table: &str) -> BrokenTable {
        BrokenTable { table: table.to_owned(), why: "its file is missing".to_owned() }
    }

    #[test]
    fn only_the_unexplained_are_unexpected() {
        let found = vec![broken("a.recorded"), broken("a.accepted"), broken("a.new")];
        let judged =
            judge_tables(found, &[broken("a.recorded"), broken("a.gone")], &["a.accepted".to_owned()]);
        assert_eq!(judged.known, [broken("a.recorded"), broken("a.accepted")]);
        assert_eq!(judged.unexpected, [broken("a.new")]);
    }

    #[test]
    fn a_source_names_a_few_of_many() {
        let endpoint = Endpoint::new("db1", 3306);
        assert_eq!(source_finding(&endpoint, &[]), None);
        let many: Vec<_> = (0..12).map(|n| broken(&format!("s.t{n}"))).collect();
        let what = source_finding(&endpoint, &many).map(|finding| finding.what).unwrap_or_default();
        assert!(what.contains("table s.t0 (its file is missing)") && what.contains("and 2 more"), "{what}");
    }
}
