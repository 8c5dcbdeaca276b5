//! Backups.

use backstop_engine::backup::{Backup, backup};
use backstop_engine::completion::record_completion;
use backstop_engine::damaged_backups::ShardBackups;
use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::report::{BackupOutcome, BackupReport};
use backstop_types::backup::{BackupKind, VolumeState};
use backstop_types::completion::{Completion, CompletionOutcome};
use backstop_types::error::{ErrorKind, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::BackupId;

use crate::fakes::{World, candidate, endpoint, primary, silent, steps};

impl World {
    pub async fn back_up(&self) -> Result<BackupReport> {
        self.back_up_for(None).await
    }

    async fn back_up_for(&self, occasion: Option<&str>) -> Result<BackupReport> {
        self.back_up_as(BackupKind::OnDemand, occasion).await?.made()
    }

    async fn back_up_as(&self, kind: BackupKind, occasion: Option<&str>) -> Result<BackupOutcome> {
        let story = Backup {
            shard: &self.shard,
            kind,
            occasion,
            full: false,
            topology: &self.fakes,
            rules: self.rules(),
            instances: &self.fakes,
            schemas: &self.fakes,
            repository: &self.repository,
            volumes: Some(&self.fakes as &dyn VolumeSnapshots),
            ctx: &self.ctx(),
        };
        backup(&story).await
    }

    async fn end_of(&self, id: &BackupId) -> Option<CompletionOutcome> {
        let reader = self.repository.reader(&self.shard);
        reader.completion(id).await.unwrap().map(|completion| completion.outcome)
    }

    /// Asserts that a backup fails, that nothing of it is left, and that the next one succeeds.
    async fn leaves_nothing(&self) -> ErrorKind {
        let error = self.back_up().await.unwrap_err();
        self.heal();
        assert_eq!((self.artefacts(), self.backups().await.len()), (0, 0), "{error}");
        assert!(self.is_free().await, "the lease is released: {error}");
        self.back_up().await.unwrap();
        error.kind
    }
}

const WHOLE: &str = "[choose] members [check] open check [claim] events [snapshot] take events plugins \
                     [store] read [commit] [clear] remove [release]";

#[tokio::test]
async fn backup_runs_its_steps_in_order() {
    let world = World::new().await;
    let report = world.back_up().await.unwrap();
    assert_eq!(steps(&world.took()), WHOLE);
    assert_eq!(world.backups().await, [report.backup_id]);
    assert_eq!((report.source.endpoint, report.parent), (endpoint(1), None));
    assert!(world.artefacts() == 0 && world.is_free().await);
}

#[tokio::test]
async fn backup_uses_the_candidate_that_answers_late() {
    let world = World::new().await;
    world.set_members(vec![primary(1, "A:1-9"), silent(2)]);
    world.set_members_later(vec![primary(1, "A:1-9"), candidate(2, "A:1-9")]);
    assert_eq!(world.back_up().await.unwrap().source.endpoint, endpoint(2));
    assert!(steps(&world.took()).starts_with("[choose] members members [check]"));
    assert!(world.told("retrying"));
}

#[tokio::test]
async fn backup_touches_nothing_if_no_member_may_be_used() {
    let world = World::new().await;
    world.set_members(vec![primary(1, "A:1-9"), primary(2, "A:1-9")]);
    assert_eq!(world.back_up().await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(steps(&world.took()), "[choose] members");
    assert!(world.backups().await.is_empty());
}

#[tokio::test]
async fn backup_touches_nothing_if_the_provider_refuses() {
    let world = World::new().await;
    *world.script().findings.lock().unwrap() = vec![Finding::problem("full", "the disk is full", "free it")];
    let error = world.back_up().await.unwrap_err();
    assert_eq!((error.kind, error.hint.as_deref()), (ErrorKind::Refused, Some("free it")));
    assert_eq!(steps(&world.took()), "[choose] members [check] open check");
}

#[tokio::test]
async fn backup_touches_nothing_if_the_source_cannot_be_opened() {
    let world = World::new().await;
    world.fail("open");
    assert_eq!(world.leaves_nothing().await, ErrorKind::Failed);
    assert!(!world.told("leftovers"));
}

#[tokio::test]
async fn backup_leaves_nothing_if_the_snapshot_fails() {
    let world = World::new().await;
    world.fail("take");
    assert_eq!(world.leaves_nothing().await, ErrorKind::Failed);
}

#[tokio::test]
async fn backup_leaves_nothing_if_the_snapshot_cannot_be_read() {
    let world = World::new().await;
    world.fail("read");
    assert_eq!(world.leaves_nothing().await, ErrorKind::Failed);
}

#[tokio::test]
async fn backup_leaves_nothing_if_its_data_cannot_be_stored() {
    let world = World::new().await;
    world.fail_puts_at("before:store", "/packs/");
    world.leaves_nothing().await;
}

#[tokio::test]
async fn backup_leaves_nothing_if_it_cannot_be_committed() {
    let world = World::new().await;
    world.fail_puts_at("before:commit", "/backups/");
    world.leaves_nothing().await;
}

#[tokio::test]
async fn backup_leaves_nothing_if_it_is_stopped_at_any_step_before_its_commit() {
    for point in ["before:choose", "before:check", "before:snapshot", "after:snapshot"] {
        let world = World::new().await;
        world.stop_at(point);
        assert_eq!(world.leaves_nothing().await, ErrorKind::Interrupted, "{point}");
    }
}

#[tokio::test]
async fn backup_succeeds_if_its_leftovers_cannot_be_removed() {
    let world = World::new().await;
    world.fail("remove");
    world.back_up().await.unwrap();
    assert!(world.told("cannot remove the leftovers"));
    assert_eq!((world.artefacts(), world.backups().await.len()), (1, 1));
    assert!(world.is_free().await);
}

#[tokio::test]
async fn backup_succeeds_if_events_and_plugins_cannot_be_read() {
    let world = World::new().await;
    world.fail("events");
    world.fail("plugins");
    let report = world.back_up().await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == "event-states-unknown"), "{report:?}");
}

#[tokio::test]
async fn backup_takes_no_snapshot_while_another_run_holds_the_shard() {
    let world = World::new().await;
    let other = world.repository.acquire_lease(&world.shard, "prune").await.unwrap();
    assert_eq!(world.back_up().await.unwrap_err().kind, ErrorKind::Held);
    assert_eq!(steps(&world.took()), "[choose] members [check] open check [claim]");
    other.release().await.unwrap();
}

#[tokio::test]
async fn second_backup_stores_an_increment_of_the_first() {
    let world = World::new().await;
    let first = world.back_up().await.unwrap();
    let second = world.back_up().await.unwrap();
    assert_eq!(second.parent, Some(first.backup_id));
}

#[tokio::test]
async fn backup_of_an_occasion_is_made_once() {
    let world = World::new().await;
    let first = world.back_up_for(Some("2026-11-23T02:00Z")).await.unwrap();
    world.took();
    let second = world.back_up_for(Some("2026-11-23T02:00Z")).await.unwrap();
    assert_eq!(first.backup_id, second.backup_id);
    assert_eq!(steps(&world.took()), "[choose] members [check] open check [claim] [clear] [release]");
}

#[tokio::test]
async fn backup_of_another_history_is_refused_before_its_snapshot() {
    let world = World::new().await;
    world.back_up().await.unwrap();
    world.took();
    world.set_members(vec![primary(2, "B:1-3")]);
    assert_eq!(world.back_up().await.unwrap_err().kind, ErrorKind::Refused);
    assert!(!steps(&world.took()).contains("take"));
    assert!(world.is_free().await);
}

#[tokio::test]
async fn backup_in_volumes_keeps_its_snapshots_after_the_commit() {
    let world = World::new().await;
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Completed);
    let report = world.back_up().await.unwrap();
    let took = steps(&world.took());
    assert!(took.ends_with("[commit] [clear] [release] [complete] complete mark"), "{took}");
    assert_eq!(report.ebs.unwrap().snapshot_ids, ["snap-1"]);
    assert!(world.told("marked completed"));
    assert_eq!(world.end_of(&report.backup_id).await, Some(CompletionOutcome::Completed));
    assert_eq!((world.artefacts(), world.backups().await.len()), (1, 1));
}

#[tokio::test]
async fn backup_in_volumes_stays_if_its_blocks_arrive_later() {
    let world = World::new().await;
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Pending);
    let report = world.back_up().await.unwrap();
    assert_eq!(report.ebs.unwrap().state, Some(VolumeState::Pending));
    assert!(world.told("in the background"));
    assert_eq!((world.artefacts(), world.backups().await.len()), (1, 1));
}

#[tokio::test]
async fn backup_in_volumes_counts_for_nothing_if_its_blocks_are_lost() {
    let world = World::new().await;
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Error);
    assert_eq!(world.back_up().await.unwrap_err().kind, ErrorKind::Failed);
    let [id] = &world.backups().await[..] else { panic!("it stays listed") };
    assert_eq!(world.end_of(id).await, Some(CompletionOutcome::Failed));
    assert!(world.told("marked failed") && world.is_free().await);
    // EC2 is not asked any more: the record suffices.
    let reader = world.repository.reader(&world.shard);
    let known = ShardBackups::of(&reader).await.unwrap();
    assert_eq!((known.sound().count(), known.failed.len()), (0, 1));
}

#[tokio::test]
async fn end_of_a_backup_is_recorded_once() {
    let world = World::new().await;
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Pending);
    let id = world.back_up().await.unwrap().backup_id;
    let reader = world.repository.reader(&world.shard);
    let at = |outcome, second| Completion {
        backup_id: id.clone(),
        outcome,
        snapshot_ids: vec!["snap-1".into()],
        at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
    };
    let first = at(CompletionOutcome::Completed, 1);
    // While another run holds the lease, and twice.
    let other = world.repository.acquire_lease(&world.shard, "prune").await.unwrap();
    for later in [first.clone(), at(CompletionOutcome::Failed, 2)] {
        let recorded = record_completion(&reader, &world.fakes, "eu", later).await.unwrap();
        assert_eq!(recorded, first);
    }
    other.release().await.unwrap();
    assert_eq!(reader.completion(&id).await.unwrap(), Some(first));
}

#[tokio::test]
async fn scheduled_backup_is_skipped_while_the_one_before_it_is_pending() {
    let world = World::new().await;
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Pending);
    let pending = world.back_up().await.unwrap().backup_id;
    world.took();
    let outcome = world.back_up_as(BackupKind::Scheduled, Some("2026-11-23T02:00Z")).await.unwrap();
    let BackupOutcome::Skipped(skipped) = outcome else { panic!("{outcome:?}") };
    assert_eq!(skipped.pending, pending);
    assert!(!steps(&world.took()).contains("take") && world.is_free().await);
    assert!(world.told("this occasion is skipped"));
    // A person's backup is made, and so is the next occasion once EC2 is done.
    world.back_up().await.unwrap();
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Completed);
    world.back_up_as(BackupKind::Scheduled, Some("2026-11-23T03:00Z")).await.unwrap().made().unwrap();
    assert_eq!(world.backups().await.len(), 3);
}

#[tokio::test]
async fn backup_in_volumes_is_made_even_if_the_wait_for_its_blocks_is_stopped() {
    for point in ["before:complete", "after:complete"] {
        let world = World::new().await;
        *world.script().volumes.lock().unwrap() = Some(VolumeState::Completed);
        world.stop_at(point);
        let report = world.back_up().await.unwrap();
        assert!(report.ebs.unwrap().state.is_some(), "{point}");
        assert_eq!(world.backups().await, [report.backup_id]);
    }
}
