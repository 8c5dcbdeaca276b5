//! Searches.

use backstop_engine::find::{TransactionSearch, find};
use backstop_engine::report::FindReport;
use backstop_types::error::{ErrorKind, Result};
use backstop_types::gtid::GtidSet;

use crate::fakes::World;
use crate::support::binlog::{SERVER_A, tail, uuid};

impl World {
    async fn found(&self, timeline: Option<u32>) -> Result<FindReport> {
        let search = TransactionSearch {
            shard: self.shard.clone(),
            timeline,
            from: None,
            until: None,
            table: None,
            kind: None,
            rows: None,
            limit: 10,
        };
        find(&self.repository.archive(&self.shard), &search, &self.ctx()).await
    }

    async fn with_timeline(self) -> Self {
        let writer = self.repository.acquire_archive_lease(&self.shard).await.unwrap();
        let (none, now) = (GtidSet::new(), self.ctx().host.clock.now());
        writer.begin_timeline(uuid(SERVER_A), &none, &none, now).await.unwrap();
        tail(&writer, 1, 1, 200).await;
        writer.release().await.unwrap();
        self
    }
}

#[tokio::test]
async fn find_says_how_to_begin_if_nothing_is_archived() {
    let error = World::new().await.found(None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotRecoverable);
    assert!(error.hint.unwrap().contains("backstop archive orders"));
}

#[tokio::test]
async fn find_names_the_timelines_if_the_requested_one_is_missing() {
    let world = World::new().await.with_timeline().await;
    let error = world.found(Some(7)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotRecoverable);
    assert!(error.message.contains("no timeline 7") && error.hint.is_some(), "{error}");
}
