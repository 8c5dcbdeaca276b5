//! Prunes.

use std::time::Duration;

use backstop_config::retention::Retention;
use backstop_config::settings::ProviderSetting;
use backstop_engine::context::RunContext;
use backstop_engine::prune::{self, Prune};
use backstop_types::backup::VolumeState;
use backstop_types::error::ErrorKind;

use crate::fakes::{World, steps};

/// Keeps the newest backup only.
const NEWEST: Retention =
    Retention { keep_all: Duration::ZERO, daily: 1, weekly: 0, monthly: 0, binlogs: None };

fn story<'a>(world: &'a World, ctx: &'a RunContext, provider: ProviderSetting) -> Prune<'a> {
    Prune {
        shard: &world.shard,
        retention: Some(&NEWEST),
        repository: &world.repository,
        volumes: &world.fakes,
        yes_really: false,
        provider,
        ctx,
    }
}

async fn with_two_backups() -> World {
    let world = World::new().await;
    world.back_up().await.unwrap();
    world.back_up().await.unwrap();
    world.took();
    world
}

#[tokio::test]
async fn prune_keeps_the_objects_of_a_deleted_backup_for_the_grace_period() {
    let (world, auto) = (with_two_backups().await, ProviderSetting::Auto);
    let packs = world.packs().await;
    let report = prune::prune(&story(&world, &world.ctx(), auto)).await.unwrap();
    assert_eq!(steps(&world.took()), "[claim] [condemn] [sweep] [archive] [release]");
    assert_eq!((world.backups().await.len(), report.condemned.len()), (1, 1));
    assert_eq!(world.packs().await, packs);
    assert!(world.is_free().await);
}

#[tokio::test]
async fn prune_plan_changes_nothing() {
    let (world, auto) = (with_two_backups().await, ProviderSetting::Auto);
    world.store.take_counts();
    let report = prune::plan(&story(&world, &world.ctx(), auto)).await.unwrap();
    assert!(!report.applied && report.backups.iter().filter(|vote| vote.is_delete()).count() == 1);
    let counts = world.store.take_counts();
    assert!(!counts.contains_key("put") && !counts.contains_key("delete"), "{counts:?}");
}

#[tokio::test]
async fn prune_refuses_to_delete_most_backups_unless_confirmed() {
    let world = with_two_backups().await;
    world.back_up().await.unwrap();
    let ctx = world.ctx();
    let refused = prune::prune(&story(&world, &ctx, ProviderSetting::Auto)).await.unwrap_err();
    assert_eq!((refused.kind, world.backups().await.len()), (ErrorKind::Refused, 3));
    assert!(world.is_free().await);
    let sure = Prune { yes_really: true, ..story(&world, &ctx, ProviderSetting::Auto) };
    prune::prune(&sure).await.unwrap();
    assert_eq!(world.backups().await.len(), 1);
}

#[tokio::test]
async fn prune_keeps_volume_snapshots_within_the_grace_period() {
    let world = World::new().await;
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Completed);
    world.back_up().await.unwrap();
    world.back_up().await.unwrap();
    world.took();
    prune::prune(&story(&world, &world.ctx(), ProviderSetting::Ebs)).await.unwrap();
    let took = steps(&world.took());
    assert_eq!(took, "[claim] [condemn] [clear] clear_dead_runs tagged [sweep] [archive] [release]");
    assert_eq!(world.artefacts(), 2);
}

#[tokio::test]
async fn prune_releases_the_shard_after_a_fault_and_continues_next_time() {
    let world = with_two_backups().await;
    world.fail("clear_dead_runs");
    let ctx = world.ctx();
    let story = story(&world, &ctx, ProviderSetting::Ebs);
    assert_eq!(prune::prune(&story).await.unwrap_err().kind, ErrorKind::Failed);
    assert!(steps(&world.took()).ends_with("clear_dead_runs [release]"));
    world.heal();
    assert_eq!(prune::prune(&story).await.unwrap().condemned.len(), 1);
}

#[tokio::test]
async fn prune_is_undone_within_the_grace_period() {
    let world = with_two_backups().await;
    let (before, ctx) = (world.backups().await, world.ctx());
    let story = story(&world, &ctx, ProviderSetting::Auto);
    prune::prune(&story).await.unwrap();
    let report = prune::undo(&story, &[]).await.unwrap();
    assert_eq!((report.undone.len(), world.backups().await), (1, before));
    assert_eq!(prune::undo(&story, &[]).await.unwrap_err().kind, ErrorKind::NotRecoverable);
    assert!(world.is_free().await);
}
