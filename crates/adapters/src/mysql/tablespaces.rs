//! Finds tablespaces that a server's dictionary names and whose files are missing.

use std::time::Duration;

use backstop_types::backup::BrokenTable;

use super::connection::Connection;
use super::error::SqlError;

/// Limit for the query, in which the server checks the file of each tablespace: a second for some
/// ten thousand.
const TABLESPACE_QUERY_TIMEOUT: Duration = Duration::from_secs(300);

/// Selects the tablespaces without a file: a missing file has no size here. The temporary tables of
/// a running `ALTER TABLE` appear and disappear.
const MISSING_TABLESPACES: &str = "SELECT SPACE, NAME, SPACE_TYPE, COALESCE(STATE, '') FROM information_schema.INNODB_TABLESPACES \
     WHERE SPACE_TYPE IN ('Single', 'General') AND (STATE = 'discarded' OR FILE_SIZE = 0) AND NAME NOT LIKE '%/#sql%'";

/// Returns the tables that the server's dictionary names and whose data is missing: the tablespace
/// is discarded, or its file does not exist. Queries twice, since a table that is being created or
/// dropped has no file for a moment. Needs the privilege PROCESS.
///
/// # Errors
/// See [`SqlCause`](super::error::SqlCause).
pub async fn broken_tables(session: &mut Connection) -> Result<Vec<BrokenTable>, SqlError> {
    let first = missing_tablespaces(session).await?;
    if first.is_empty() {
        return Ok(first);
    }
    let mut again = missing_tablespaces(session).await?;
    again.retain(|broken| first.contains(broken));
    Ok(again)
}

async fn missing_tablespaces(session: &mut Connection) -> Result<Vec<BrokenTable>, SqlError> {
    let spaces: Vec<(u64, String, String, String)> =
        session.query_within(MISSING_TABLESPACES, TABLESPACE_QUERY_TIMEOUT).await?;
    let mut broken = Vec::new();
    for (number, name, kind, state) in spaces {
        let why = match state.as_str() {
            "discarded" => "its tablespace is discarded".to_owned(),
            _ if kind == "General" => format!("the file of tablespace {name} is missing"),
            _ => "the file of its tablespace is missing".to_owned(),
        };
        let tables = if kind == "General" { tables_in(session, number).await? } else { vec![name] };
        let named = tables.iter().map(|name| BrokenTable { table: table_name(name), why: why.clone() });
        broken.extend(named);
    }
    broken.sort();
    broken.dedup();
    Ok(broken)
}

async fn tables_in(session: &mut Connection, space: u64) -> Result<Vec<String>, SqlError> {
    let sql = format!("SELECT NAME FROM information_schema.INNODB_TABLES WHERE SPACE = {space}");
    session.query_within(&sql, TABLESPACE_QUERY_TIMEOUT).await
}

/// Returns `schema.table` for InnoDB's name `schema/table` or, of a partition,
/// `schema/table#p#name`.
fn table_name(name: &str) -> String {
    let whole = name.split("#p#").next().unwrap_or(name).split("#P#").next().unwrap_or(name);
    decoded(&whole.replacen('/', ".", 1))
}

/// Decodes MySQL's encoding of names in file names where it is a plain code point (`@0020`).
fn decoded(name: &str) -> String {
    let mut plain = String::new();
    let mut rest = name;
    while let Some(at) = rest.find('@') {
        plain.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 5).filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32) {
            Some(letter) => {
                plain.push(letter);
                rest = &rest[at + 5..];
            }
            None => {
                plain.push('@');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_decoded_to_sql_names() {
        assert_eq!(table_name("shop/orders"), "shop.orders");
        assert_eq!(table_name("shop/parts#p#p0#sp#s1"), "shop.parts");
        assert_eq!(table_name("shop/a@0020b@002dc"), "shop.a b-c");
        assert_eq!(table_name("shop/odd@zz"), "shop.odd@zz");
    }
}
