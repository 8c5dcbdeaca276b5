//! Recoveries from volume snapshots onto a new instance.

use std::collections::BTreeMap;

use backstop_engine::recover_ebs::{EbsRecovery, EbsRecoveryReport, EbsRecoveryRequest, rebuild};
use backstop_types::backup::VolumeState;
use backstop_types::error::{ErrorKind, Result};

use crate::fakes::{World, steps};

impl World {
    async fn with_volume_backup() -> Self {
        let world = Self::new().await;
        *world.script().volumes.lock().unwrap() = Some(VolumeState::Completed);
        world.back_up().await.unwrap();
        world.took();
        world
    }

    async fn rebuilt(&self) -> Result<EbsRecoveryReport> {
        let reader = self.repository.reader(&self.shard);
        let manifest = reader.manifest(&self.backups().await[0]).await.unwrap();
        let zones = ["eu-a", "eu-b"].map(|zone| (zone.to_owned(), format!("subnet-{zone}")));
        let request = EbsRecoveryRequest {
            shard: self.shard.clone(),
            target: "latest".to_owned(),
            backup_id: manifest.facts.backup_id.clone(),
            into: self.dir.path().join("into"),
            subnets: BTreeMap::from(zones),
        };
        let story = EbsRecovery {
            manifest: &manifest,
            topology: &self.fakes,
            snapshots: &self.fakes,
            infrastructure: &self.fakes,
            playbook: &self.fakes,
            ctx: &self.ctx(),
            request,
        };
        rebuild(&story).await
    }
}

#[tokio::test]
async fn rebuild_runs_its_steps_in_order_and_protects_the_server_at_the_end() {
    let world = World::with_volume_backup().await;
    let report = world.rebuilt().await.unwrap();
    assert_eq!(
        steps(&world.took()),
        "[decide] state tagged members zone [apply] apply [configure] members playbook [joined] members probe \
         [protect] apply [loaded] volumes [hand_over]"
    );
    assert!(world.told("applied in eu-b: Off") && world.told("applied in eu-b: On"));
    assert!(report.joined);
}

#[tokio::test]
async fn rebuild_creates_nothing_from_snapshots_that_are_not_complete() {
    let world = World::with_volume_backup().await;
    *world.script().volumes.lock().unwrap() = Some(VolumeState::Pending);
    assert_eq!(world.rebuilt().await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(steps(&world.took()), "[decide] state");
}

#[tokio::test]
async fn rebuild_destroys_an_instance_on_which_no_server_can_have_started() {
    let world = World::with_volume_backup().await;
    world.fail("apply");
    let error = world.rebuilt().await.unwrap_err();
    let took = steps(&world.took());
    assert!(took.ends_with("[apply] apply [apply] apply [destroy] destroy"), "{took}");
    assert!(error.hint.unwrap().contains("its resources were destroyed"));
}

#[tokio::test]
async fn rebuild_leaves_an_instance_on_which_a_server_may_have_started_and_resumes() {
    let world = World::with_volume_backup().await;
    world.fail("playbook");
    let error = world.rebuilt().await.unwrap_err();
    assert!(error.hint.unwrap().contains("i-9 (db9:3306) is left unchanged"));
    assert!(!steps(&world.took()).contains("destroy"));
    world.heal();
    world.rebuilt().await.unwrap();
    assert!(steps(&world.took()).starts_with("[configure] members playbook"), "it is not created again");
}

#[tokio::test]
async fn rebuild_gives_up_on_a_server_that_never_answers() {
    let world = World::with_volume_backup().await;
    world.fail("probe");
    let error = world.rebuilt().await.unwrap_err();
    assert!(error.message.contains("cannot check the new server db9:3306"), "{error}");
    assert!(!steps(&world.took()).contains("[protect]"));
}
