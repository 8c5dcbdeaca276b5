//! The `clone` provider.

use std::time::Duration;

use backstop_adapters::snapshots::clone::Clone;
use backstop_engine::ports::Snapshots;
use backstop_testkit::{Layout, Shard, snapshots, tables};

async fn provider(shard: &Shard) -> Clone {
    Clone::new(snapshots::site(shard, shard.primary(), &shard.base().join("work")).await)
}

#[tokio::test]
async fn conformance() {
    let shard = Shard::start(Layout::single()).await;
    tables::fill(shard.primary(), 2, 20_000).await;
    let provider = provider(&shard).await;
    let taken = snapshots::exact_under_load(&shard, &provider).await;
    assert_eq!(taken.lineage.volume, "clone");
    snapshots::exact_under_load(&shard, &provider).await;
}

#[tokio::test]
async fn refuses_what_clone_would_lose() {
    let shard = Shard::start(Layout::single()).await;
    let provider = provider(&shard).await;
    shard.primary().run(&["CREATE DATABASE shop", "CREATE TABLE shop.old (id INT) ENGINE = MyISAM"]).await;
    snapshots::refuses(&shard, &provider, "shop.old").await;
    shard.primary().run(&["DROP TABLE shop.old"]).await;

    let outside = shard.base().join("outside");
    std::fs::create_dir(&outside).unwrap();
    drop(provider);
    shard.primary().run(&["UNINSTALL PLUGIN clone"]).await;
    let provider = self::provider(&shard).await;
    let fault = snapshots::refuses(&shard, &provider, "clone plugin").await;
    assert!(fault.hint.unwrap().contains("INSTALL PLUGIN clone"));
}

#[tokio::test]
async fn refuses_a_table_space_outside_of_the_data_directory() {
    let outside = tempfile::tempdir().unwrap();
    let option = format!("innodb_directories = {}", outside.path().display());
    let shard = Shard::start(Layout::single().option(&option)).await;
    let create = format!("CREATE TABLE shop.far (id INT) DATA DIRECTORY = '{}'", outside.path().display());
    shard.primary().run(&["CREATE DATABASE shop", &create]).await;
    snapshots::refuses(&shard, &provider(&shard).await, "far.ibd").await;
}

#[tokio::test]
async fn a_killed_run_leaves_nothing_that_the_next_does_not_clear() {
    let shard = Shard::start(Layout::single()).await;
    tables::fill(shard.primary(), 2, 20_000).await;
    let provider = provider(&shard).await;
    let site = snapshots::site(&shard, shard.primary(), &shard.base().join("work")).await;
    for after in [20, 60, 100, 150, 250, 500, 1000, 2000] {
        snapshots::survives_being_dropped(&shard, &site, &provider, Duration::from_millis(after)).await;
    }
    assert_eq!(provider.list().await.unwrap(), []);
    snapshots::exact_under_load(&shard, &provider).await;
}
