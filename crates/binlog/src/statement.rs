//! Statements in the binlog: their kind and the tables they name. The parser reads only as much as
//! a search needs. Their effect on events is in [`event_change`](Statement::event_change).
//!
//! Body of Query (type 2): thread id u32 · seconds u32 · length of the schema u8 · error u16 ·
//! length of the status u16 · status · schema, 0 · the statement.

mod events;

use crate::{DataLoss, TableRows};

use crate::codec::FieldReader;
use crate::redaction;
use crate::tokenizer::{Token, tokenize};

/// A logged statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The default schema of the statement.
    pub(crate) schema: String,
    pub(crate) text: String,
    /// True if a backslash in a string is an ordinary character, by the session's `sql_mode`.
    pub(crate) plain_backslashes: bool,
}

/// Flag NO_BACKSLASH_ESCAPES of `sql_mode`.
const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// Role of a statement in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementKind {
    /// It begins, ends or divides the transaction.
    Control,
    /// It changes rows.
    Rows,
    /// It makes any other change.
    Definition,
}

impl Statement {
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(body);
        fields.bytes(8)?;
        let schema = usize::from(fields.u8()?);
        fields.bytes(2)?;
        let status = usize::from(fields.u16()?);
        let plain_backslashes =
            sql_mode(fields.bytes(status)?).is_some_and(|mode| mode & NO_BACKSLASH_ESCAPES > 0);
        let schema = String::from_utf8_lossy(fields.bytes(schema)?).into_owned();
        fields.u8()?;
        let text = String::from_utf8_lossy(fields.rest()).into_owned();
        Some(Self { schema, text, plain_backslashes })
    }

    /// Returns its first characters for display, without passwords and their hashes.
    pub(crate) fn shown(&self, letters: usize) -> String {
        let accounts =
            self.sort() == StatementKind::Rows && self.tables().iter().any(|table| table.schema == "mysql");
        redaction::redact_statement(&self.text, letters, self.plain_backslashes, accounts)
    }

    pub(crate) fn sort(&self) -> StatementKind {
        let words = tokenize(&self.text, 2, self.plain_backslashes);
        let word = |at: usize| words.get(at).and_then(Token::keyword).unwrap_or_default();
        match word(0).as_str() {
            "BEGIN" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "XA" => StatementKind::Control,
            "START" if word(1) == "TRANSACTION" => StatementKind::Control,
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "CALL" | "WITH" | "SELECT" | "DO" => {
                StatementKind::Rows
            }
            _ => StatementKind::Definition,
        }
    }

    /// Returns the loss it causes, as far as its keywords show.
    pub(crate) fn loses(&self) -> Option<DataLoss> {
        let tokens = tokenize(&self.text, MAX_TOKENS, self.plain_backslashes);
        let first = tokens.first().and_then(Token::keyword).unwrap_or_default();
        let temporary = tokens.get(1).is_some_and(|token| token.is("TEMPORARY"));
        match (first.as_str(), noun(&tokens).as_deref()) {
            ("TRUNCATE" | "DELETE", _) => Some(DataLoss::Rows),
            ("DROP", _) if temporary => None,
            ("DROP", Some("TABLE" | "TABLES" | "DATABASE" | "SCHEMA")) => Some(DataLoss::Rows),
            ("DROP", _) => Some(DataLoss::Definition),
            ("ALTER", Some("TABLE")) => alter_table_loss(&tokens),
            _ => None,
        }
    }

    /// Returns the tables it names, without duplicates. A table without a schema is in the default
    /// schema.
    pub(crate) fn tables(&self) -> Vec<TableRows> {
        let tokens = tokenize(&self.text, MAX_TOKENS, self.plain_backslashes);
        let mut named = NamedTables { schema: &self.schema, tables: Vec::new() };
        let first = tokens.first().and_then(Token::keyword).unwrap_or_default();
        let noun = noun(&tokens);
        let defines = ["CREATE", "ALTER", "DROP", "RENAME"].contains(&first.as_str());
        let rights = ["GRANT", "REVOKE", "SET", "FLUSH"].contains(&first.as_str());
        if rights || (defines && noun.as_deref().is_some_and(|noun| NOUNS_WITHOUT_TABLES.contains(&noun))) {
            return named.tables;
        }
        let indexes = matches!(noun.as_deref(), Some("INDEX" | "TRIGGER"));
        for (at, token) in tokens.iter().enumerate() {
            let rest = tokens.get(at + 1..).unwrap_or_default();
            let names = match token.keyword().as_deref() {
                Some("TABLE" | "VIEW" | "TABLES") => true,
                Some("INTO" | "UPDATE" | "FROM" | "JOIN") => first != "ALTER",
                Some("TRUNCATE") => !rest.first().is_some_and(|next| next.is("TABLE")),
                Some("ON") => indexes,
                Some("TO") => first == "RENAME",
                Some("DATABASE" | "SCHEMA") if at < 3 => {
                    named.schema(rest);
                    false
                }
                _ => false,
            };
            if names {
                named.list(rest);
            }
        }
        named.tables
    }
}

/// Reads the session's `sql_mode`, the second status variable: code 0 and 4 bytes of flags, code 1
/// and 8 bytes.
fn sql_mode(status: &[u8]) -> Option<u64> {
    let mut fields = FieldReader::new(status);
    let mut code = fields.u8()?;
    if code == 0 {
        fields.bytes(4)?;
        code = fields.u8()?;
    }
    (code == 1).then(|| fields.u64()).flatten()
}

/// Objects whose definition or removal changes no table. The body of a routine names tables, but
/// touches them only when it runs.
const NOUNS_WITHOUT_TABLES: [&str; 8] =
    ["USER", "ROLE", "PROCEDURE", "FUNCTION", "EVENT", "SERVER", "TABLESPACE", "UNDO"];
const NOUNS_WITH_TABLES: [&str; 7] = ["TABLE", "TABLES", "VIEW", "DATABASE", "SCHEMA", "INDEX", "TRIGGER"];

/// Returns the kind of object that a statement defines: the word after its verb and words such as
/// DEFINER.
fn noun(tokens: &[Token]) -> Option<String> {
    let keywords = tokens.iter().skip(1).take(16).filter_map(Token::keyword);
    keywords
        .into_iter()
        .find(|word| [&NOUNS_WITHOUT_TABLES[..], &NOUNS_WITH_TABLES].concat().contains(&word.as_str()))
}

/// Returns the worst loss of an ALTER TABLE: columns and partitions contain rows, an index does
/// not.
fn alter_table_loss(tokens: &[Token]) -> Option<DataLoss> {
    const NO_ROWS: [&str; 8] =
        ["INDEX", "KEY", "PRIMARY", "FOREIGN", "CHECK", "CONSTRAINT", "DEFAULT", "EXPRESSION"];
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    let mut dropped: Vec<DataLoss> = pairs
        .filter_map(|(token, next)| match token.keyword().as_deref() {
            Some("TRUNCATE") if next.is("PARTITION") => Some(DataLoss::Rows),
            Some("DROP") if NO_ROWS.iter().any(|word| next.is(word)) => Some(DataLoss::Definition),
            Some("DROP") => Some(DataLoss::Rows),
            _ => None,
        })
        .collect();
    dropped.sort();
    dropped.pop()
}

/// Largest number of tokens read of a statement.
const MAX_TOKENS: usize = 10_000;

struct NamedTables<'a> {
    schema: &'a str,
    tables: Vec<TableRows>,
}

impl NamedTables<'_> {
    /// Reads names separated by commas.
    fn list(&mut self, tokens: &[Token]) {
        let mut rest = without_if_exists(tokens);
        loop {
            let Some((name, after)) = name(rest) else { return };
            let (schema, table) = match name {
                (Some(schema), table) => (schema, table),
                (None, table) => (self.schema.to_owned(), table),
            };
            self.add(schema, table);
            match after.split_first() {
                Some((Token::Sign(','), after)) => rest = after,
                _ => return,
            }
        }
    }

    fn schema(&mut self, tokens: &[Token]) {
        if let Some(Token::Word(schema) | Token::Quoted(schema)) = without_if_exists(tokens).first() {
            self.add(schema.clone(), "*".to_owned());
        }
    }

    fn add(&mut self, schema: String, table: String) {
        if !self.tables.iter().any(|known| known.schema == schema && known.table == table) {
            self.tables.push(TableRows { schema, table, ..TableRows::default() });
        }
    }
}

fn without_if_exists(tokens: &[Token]) -> &[Token] {
    let skipped = tokens.iter().take_while(|token| ["IF", "NOT", "EXISTS"].iter().any(|word| token.is(word)));
    tokens.get(skipped.count()..).unwrap_or_default()
}

type Name = (Option<String>, String);

/// Parses `table` or `schema.table`, and returns the remaining tokens.
fn name(tokens: &[Token]) -> Option<(Name, &[Token])> {
    let (Token::Word(first) | Token::Quoted(first)) = tokens.first()? else { return None };
    match (tokens.get(1), tokens.get(2)) {
        (Some(Token::Sign('.')), Some(Token::Word(table) | Token::Quoted(table))) => {
            Some(((Some(first.clone()), table.clone()), tokens.get(3..)?))
        }
        _ => Some(((None, first.clone()), tokens.get(1..)?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> (StatementKind, Vec<String>) {
        let statement = Statement { schema: "d".into(), text: text.into(), plain_backslashes: false };
        let tables = statement.tables();
        (statement.sort(), tables.iter().map(|table| format!("{}.{}", table.schema, table.table)).collect())
    }

    #[test]
    fn statements_are_classified_and_name_their_tables() {
        let is = |text: &str, sort: StatementKind, tables: &[&str]| {
            assert_eq!(told(text), (sort, tables.iter().map(|&table| table.to_owned()).collect()), "{text}");
        };
        use StatementKind::{Control, Definition, Rows};
        is("BEGIN", Control, &[]);
        is("XA START X'78'", Control, &[]);
        is("DROP TABLE `a`.`b` , c /* generated by server */", Definition, &["a.b", "d.c"]);
        is("/* hi */ drop table if exists x.y", Definition, &["x.y"]);
        is(
            "CREATE TABLE IF NOT EXISTS `we``ird` (a INT, b TEXT DEFAULT 'FROM x')",
            Definition,
            &["d.we`ird"],
        );
        is("ALTER TABLE t DROP COLUMN a", Definition, &["d.t"]);
        is("TRUNCATE t", Definition, &["d.t"]);
        is("TRUNCATE TABLE s.t", Definition, &["s.t"]);
        is("RENAME TABLE a TO b, s.c TO e", Definition, &["d.a", "d.b", "s.c", "d.e"]);
        is("DROP DATABASE IF EXISTS shop", Definition, &["shop.*"]);
        is("CREATE UNIQUE INDEX i ON t (a)", Definition, &["d.t"]);
        is("INSERT INTO t SELECT * FROM s.u JOIN v", Rows, &["d.t", "s.u", "d.v"]);
        is("update t set a = 'x''y\\'z FROM q' where 1", Rows, &["d.t"]);
        for text in [
            "GRANT SELECT ON *.* TO u",
            "GRANT SHOW VIEW, LOCK TABLES, INDEX ON s.t TO `u`@`h`",
            "REVOKE CREATE VIEW ON *.* FROM u",
            "REVOKE ALL PRIVILEGES, GRANT OPTION FROM u",
            "SET PASSWORD FOR u = 'x'",
            "CREATE USER IF NOT EXISTS u ACCOUNT LOCK",
            "DROP USER u",
            "RENAME USER a TO b",
            "CREATE DEFINER=`r`@`h` PROCEDURE p() BEGIN DELETE FROM t; DROP TABLE u; END",
            "CREATE FUNCTION f() RETURNS INT RETURN (SELECT 1 FROM t)",
            "DROP FUNCTION f",
        ] {
            is(text, Definition, &[]);
        }
        is(
            "CREATE DEFINER=`r`@`h` TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            Definition,
            &["d.t"],
        );
        is("CREATE OR REPLACE ALGORITHM=MERGE DEFINER=r@h VIEW v AS SELECT 1", Definition, &["d.v"]);
    }

    #[test]
    fn data_loss_of_a_statement_is_classified() {
        let loses = |text: &str| {
            Statement { schema: "d".into(), text: text.into(), plain_backslashes: false }.loses()
        };
        for text in [
            "DROP TABLE `t` /* generated by server */",
            "/* hi */ drop table if exists t",
            "DROP DATABASE d",
            "TRUNCATE t",
            "DELETE FROM t",
            "ALTER TABLE t ADD a INT, DROP COLUMN b, DROP INDEX c",
            "ALTER TABLE t DROP b",
            "ALTER TABLE t TRUNCATE PARTITION p",
        ] {
            assert_eq!(loses(text), Some(DataLoss::Rows), "{text}");
        }
        for text in
            ["DROP VIEW v", "DROP USER u", "DROP FUNCTION f", "DROP INDEX i ON t", "ALTER TABLE t DROP KEY k"]
        {
            assert_eq!(loses(text), Some(DataLoss::Definition), "{text}");
        }
        for text in [
            "CREATE TABLE t (a INT)",
            "DROP TEMPORARY TABLE t",
            "GRANT DROP ON *.* TO u",
            "INSERT INTO t VALUES (1)",
        ] {
            assert_eq!(loses(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_statements_are_read(text: String, bytes: Vec<u8>) {
            let _ = told(&text);
            if let Some(statement) = Statement::parse(&bytes) {
                let _ = (statement.sort(), statement.tables(), statement.loses());
            }
        }

        #[test]
        fn arbitrary_fragments_of_statements_are_read(
            parts in prop::collection::vec(prop::sample::select(vec![
                "/*!", "*/", "'", "`", "\"", "DROP", "TABLE", ",", ".", "é", "\\", "#", "-- ", "\n", " ", "IF",
            ]), 0..20)
        ) {
            let _ = told(&parts.concat());
        }
    }
}
