//! Adoptions.

use backstop_engine::adopt::{Adopt, adopt};
use backstop_engine::report::AdoptReport;
use backstop_types::error::{ErrorKind, Result};

use crate::fakes::{World, candidate, primary, steps};
use crate::support::binlog::set;

impl World {
    async fn adopted(&self) -> Result<AdoptReport> {
        let ctx = self.ctx();
        let story =
            Adopt { shard: &self.shard, topology: &self.fakes, repository: &self.repository, ctx: &ctx };
        adopt(&story).await
    }
}

#[tokio::test]
async fn adopt_lets_backups_of_the_new_history_pass() {
    let world = World::new().await;
    let old = world.back_up().await.unwrap();
    world.set_members(vec![primary(2, "B:1-3")]);
    assert_eq!(world.back_up().await.unwrap_err().kind, ErrorKind::Refused);
    world.took();
    let report = world.adopted().await.unwrap();
    assert_eq!(steps(&world.took()), "members [line] [claim] [adopt] [release]");
    assert_eq!(report.adopted.gtid_executed, set("B:1-3"));
    assert_eq!((report.newest_backup, report.timeline), (Some(old.backup_id), None));
    world.back_up().await.unwrap();
}

#[tokio::test]
async fn adopt_changes_nothing_without_a_primary() {
    let world = World::new().await;
    world.back_up().await.unwrap();
    world.set_members(vec![candidate(2, "A:1-9")]);
    world.took();
    world.adopted().await.unwrap_err();
    assert_eq!(steps(&world.took()), "members");
    assert_eq!(world.repository.reader(&world.shard).adopted().await.unwrap(), None);
}

#[tokio::test]
async fn adopt_waits_for_no_backup_that_holds_the_shard() {
    let world = World::new().await;
    let backup = world.repository.acquire_lease(&world.shard, "backup").await.unwrap();
    assert_eq!(world.adopted().await.unwrap_err().kind, ErrorKind::Held);
    backup.release().await.unwrap();
    assert_eq!(world.repository.reader(&world.shard).adopted().await.unwrap(), None);
}
