//! Compares the tables of the member that is backed up with the primary's: equal GTID sets do not
//! prove that they match.

use backstop_policy::schema_diff::{SchemaDifference, not_compared_finding};
use backstop_types::error::Result;
use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::topology::{Role, SourceChoice};

use crate::ports::Schemas;

/// Compares the names of the chosen member's schemas and tables with the primary's, once the member
/// has executed the primary's transactions. A difference counts if it is seen twice. Returns
/// nothing for the primary itself, and a finding if the comparison fails.
pub async fn compare_tables(
    shard: &ShardName,
    choice: &SourceChoice,
    schemas: &dyn Schemas,
) -> Option<Finding> {
    let member = &choice.endpoint;
    if choice.role == Role::Primary {
        return None;
    }
    let Some(primary) = &choice.primary else {
        return Some(not_compared_finding(member, "no primary answered"));
    };
    Some(match differences(schemas, primary, member).await {
        Ok(difference) => difference.finding(shard, member, primary),
        Err(error) => not_compared_finding(member, &error.message),
    })
}

async fn differences(
    schemas: &dyn Schemas,
    primary: &Endpoint,
    member: &Endpoint,
) -> Result<SchemaDifference> {
    let first = difference_now(schemas, primary, member).await?;
    if first.is_empty() {
        return Ok(first);
    }
    Ok(first.and(&difference_now(schemas, primary, member).await?))
}

async fn difference_now(
    schemas: &dyn Schemas,
    primary: &Endpoint,
    member: &Endpoint,
) -> Result<SchemaDifference> {
    let nothing = GtidSet::new();
    let before = schemas.tables(primary, &nothing).await?;
    let of_member = schemas.tables(member, &before.executed).await?;
    let after = schemas.tables(primary, &nothing).await?;
    Ok(SchemaDifference::between(&before, &of_member, &after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use backstop_policy::schema_diff::TableInventory;
    use backstop_types::error::Error;
    use backstop_types::plugins::Plugin;
    use backstop_types::scheduled_events::ServerEvents;

    use super::*;

    /// Returns these names, one answer after another.
    struct Told(Mutex<VecDeque<&'static str>>);

    #[async_trait]
    impl Schemas for Told {
        async fn tables(&self, _: &Endpoint, _: &GtidSet) -> Result<TableInventory> {
            let names = self.0.lock().unwrap().pop_front().unwrap();
            let names = names.split_whitespace().map(str::to_owned).collect();
            Ok(TableInventory { names, executed: GtidSet::new() })
        }

        async fn events(&self, _: &Endpoint) -> Result<ServerEvents> {
            Err(Error::failed("not asked"))
        }

        async fn plugins(&self, _: &Endpoint) -> Result<Vec<Plugin>> {
            Err(Error::failed("not asked"))
        }
    }

    async fn differs(answers: &[&'static str]) -> bool {
        let told = Told(Mutex::new(answers.iter().copied().collect()));
        let (primary, member) = (Endpoint::new("db1", 3306), Endpoint::new("db2", 3306));
        let difference = differences(&told, &primary, &member).await.unwrap();
        assert!(told.0.into_inner().unwrap().is_empty(), "all were asked");
        !difference.is_empty()
    }

    #[tokio::test]
    async fn difference_counts_only_if_seen_twice() {
        assert!(!differs(&["a", "a", "a"]).await);
        assert!(differs(&["a b", "a", "a b", "a b", "a", "a b"]).await);
        // A table that was seen before its GTID was, and one that existed only between the
        // primary's answers.
        assert!(!differs(&["a b", "a", "a b", "a b", "a b", "a b"]).await);
        assert!(!differs(&["a", "a c", "a", "a", "a", "a"]).await);
    }
}
