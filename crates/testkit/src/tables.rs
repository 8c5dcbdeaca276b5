//! Contents of a server's tables, to compare servers.

use std::collections::BTreeMap;

use crate::member::TestMember;

/// Returns `CHECKSUM TABLE` of every user table, by `schema.table`.
pub async fn checksums(member: &TestMember) -> BTreeMap<String, Option<u64>> {
    backstop_testbed::tables::checksums(&mut member.root().await).await.expect("checksums")
}

/// Creates `tables` tables of `rows` rows in schema `shop`.
pub async fn fill(member: &TestMember, tables: usize, rows: usize) {
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
