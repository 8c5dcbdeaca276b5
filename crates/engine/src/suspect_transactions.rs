//! Ranks the found transactions by how likely a recovery should stop before them.

use backstop_binlog::{DataLoss, FoundTransaction, TableRows};

/// Number of deleted or updated rows from which a transaction counts as a mishap.
const SUSPICIOUS_ROW_COUNT: u64 = 1000;

/// Degree of suspicion that a transaction is a mishap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suspicion {
    Little,
    Some,
    Much,
}

/// Ranks transactions, given newest first, by suspicion; each with a description of its change.
pub fn rank_suspects(newest_first: &[FoundTransaction]) -> Vec<(&FoundTransaction, String)> {
    let mut all: Vec<(Suspicion, &FoundTransaction, String)> = newest_first
        .iter()
        .map(|found| {
            let (suspicion, what) = suspicion(found);
            (suspicion, found, format!("{what}{}", tables(found)))
        })
        .collect();
    all.sort_by_key(|(suspicion, ..)| std::cmp::Reverse(*suspicion));
    all.into_iter().map(|(_, found, what)| (found, what)).collect()
}

fn suspicion(found: &FoundTransaction) -> (Suspicion, String) {
    let sum = |of: fn(&TableRows) -> u64| found.tables.iter().map(of).sum::<u64>();
    let (deleted, updated) = (sum(|table| table.deleted), sum(|table| table.updated));
    let words = |count: usize| {
        let text = found.statement.as_deref().unwrap_or_default();
        let comment = text.starts_with("/*").then(|| text.split_once("*/")).flatten();
        comment
            .map_or(text, |(_, rest)| rest)
            .split_whitespace()
            .take(count)
            .collect::<Vec<_>>()
            .join(" ")
            .to_uppercase()
    };
    match found.loses {
        Some(DataLoss::Rows) => (Suspicion::Much, words(if words(1) == "TRUNCATE" { 1 } else { 2 })),
        Some(DataLoss::Definition) => (Suspicion::Some, words(2)),
        None if deleted >= SUSPICIOUS_ROW_COUNT => (Suspicion::Much, format!("{deleted} rows deleted")),
        None if updated >= SUSPICIOUS_ROW_COUNT => (Suspicion::Some, format!("{updated} rows updated")),
        None if deleted > 0 => (Suspicion::Some, format!("{deleted} rows deleted")),
        None => (Suspicion::Little, "the newest of them".to_owned()),
    }
}

/// Lists the tables. A name that is not plain in a shell command line is omitted.
fn tables(found: &FoundTransaction) -> String {
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_$*".contains(c));
    let names = |table: &TableRows| {
        let all = plain(&table.schema) && plain(&table.table);
        if all { format!("{}.{}", table.schema, table.table) } else { "a table".to_owned() }
    };
    match found.tables.as_slice() {
        [] => String::new(),
        [table] => format!(", {}", names(table)),
        [table, more @ ..] => format!(", {} and {} more", names(table), more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_binlog::ChangeKind;

    fn found(number: u64, statement: &str, loses: Option<DataLoss>, deleted: u64) -> FoundTransaction {
        let table = TableRows { schema: "s".into(), table: "t".into(), deleted, ..TableRows::default() };
        FoundTransaction {
            gtid: number.to_string(),
            committed_at: None,
            kind: ChangeKind::Ddl,
            tables: vec![table],
            rows: deleted,
            statement: Some(statement.to_owned()),
            statement_based: false,
            loses,
            to: format!("before:{number}"),
        }
    }

    #[test]
    fn newest_loss_of_rows_is_suspected_first() {
        let all = [
            found(8, "INSERT", None, 0),
            found(7, "DROP USER u", Some(DataLoss::Definition), 0),
            found(6, "GRANT", None, 0),
            found(5, "truncate table t", Some(DataLoss::Rows), 0),
            found(4, "", None, 2000),
            found(3, "DROP TABLE t", Some(DataLoss::Rows), 0),
            found(2, "", None, 3),
            found(1, "CREATE DATABASE s", None, 0),
        ];
        let suspected = rank_suspects(&all);
        let order: Vec<&str> = suspected.iter().map(|(found, _)| found.gtid.as_str()).collect();
        assert_eq!(order, ["5", "4", "3", "7", "2", "8", "6", "1"]);
        let words: Vec<&str> = suspected.iter().map(|(_, what)| what.as_str()).take(4).collect();
        assert_eq!(words, ["TRUNCATE, s.t", "2000 rows deleted, s.t", "DROP TABLE, s.t", "DROP USER, s.t"]);
    }
}
