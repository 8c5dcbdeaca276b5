//! Tables that their server cannot read, and the consequences for a recovery.

use backstop_types::backup::BrokenTable;
use backstop_types::finding::Finding;
use backstop_types::ids::Endpoint;

/// Number of tables named in one sentence.
const MAX_NAMED_TABLES: usize = 10;

/// The outcome of checking tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablesChecked {
    /// Number of checked tables.
    pub checked: u64,
    /// The broken tables.
    pub broken: Vec<BrokenTable>,
}

/// Broken tables of a recovered server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableCheckVerdict {
    /// Tables that were broken when the backup was taken, or that the operator accepts as broken.
    pub known: Vec<BrokenTable>,
    /// Tables without an explanation.
    pub unexpected: Vec<BrokenTable>,
}

/// Compares the broken tables after a recovery with those that the backup recorded and those that
/// the operator accepts (`schema.table`).
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

/// Returns a warning that names the broken tables of the backup's source; `None` if there are none.
pub fn source_finding(endpoint: &Endpoint, broken: &[BrokenTable]) -> Option<Finding> {
    (!broken.is_empty()).then(|| {
        Finding::warning(
            "tables-broken",
            format!("{endpoint} cannot read {}: its backups lack their rows", describe_tables(broken)),
            "finish the import (`ALTER TABLE … IMPORT TABLESPACE`), restore the table from another member, or drop it",
        )
    })
}

/// Formats tables as `table a.b (why), table c.d (why) and 3 more`.
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
    fn broken_table_is_expected_only_if_recorded_or_accepted() {
        let found = vec![broken("a.recorded"), broken("a.accepted"), broken("a.new")];
        let judged =
            judge_tables(found, &[broken("a.recorded"), broken("a.gone")], &["a.accepted".to_owned()]);
        assert_eq!(judged.known, [broken("a.recorded"), broken("a.accepted")]);
        assert_eq!(judged.unexpected, [broken("a.new")]);
    }

    #[test]
    fn finding_names_first_broken_tables_and_counts_the_rest() {
        let endpoint = Endpoint::new("db1", 3306);
        assert_eq!(source_finding(&endpoint, &[]), None);
        let many: Vec<_> = (0..12).map(|n| broken(&format!("s.t{n}"))).collect();
        let what = source_finding(&endpoint, &many).map(|finding| finding.what).unwrap_or_default();
        assert!(what.contains("table s.t0 (its file is missing)") && what.contains("and 2 more"), "{what}");
    }
}
