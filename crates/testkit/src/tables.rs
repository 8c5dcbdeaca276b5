//! What is in a server's tables, to compare servers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::member::Member;

/// `CHECKSUM TABLE` of every user table, by `schema.table`.
pub async fn checksums(member: &Member) -> BTreeMap<String, Option<u64>> {
    let mut session = member.root().await;
    let tables: Vec<(String, String)> = session
        .query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
             AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')",
        )
        .await
        .expect("the tables' names");
    let mut sums = BTreeMap::new();
    for (schema, table) in tables {
        let sql = format!("CHECKSUM TABLE `{schema}`.`{table}`");
        let rows: Vec<(String, Option<u64>)> =
            session.query_within(&sql, Duration::from_secs(120)).await.expect("a checksum");
        sums.extend(rows);
    }
    sums
}

/// Makes `tables` tables of `rows` rows in schema `shop`.
pub async fn fill(member: &Member, tables: usize, rows: usize) {
    member.run(&["CREATE DATABASE IF NOT EXISTS shop"]).await;
    for table in 1..=tables {
        let create = format!(
            "CREATE TABLE shop.t{table} (id INT PRIMARY KEY, k INT NOT NULL, pad VARCHAR(200) NOT NULL, KEY (k))"
        );
        let insert = format!(
            "INSERT INTO shop.t{table} WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             SELECT i, i * 7 MOD 1000, REPEAT(CHAR(97 + i MOD 26), 100) FROM n"
        );
        member.run(&[&create, "SET SESSION cte_max_recursion_depth = 10000000", &insert]).await;
    }
}
