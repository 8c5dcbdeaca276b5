//! Recoveries from volume snapshots onto a new instance.

use std::collections::BTreeMap;

use backstop_engine::ports::HostRecovery;
use backstop_engine::recover::LiveMembers;
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
        self.rebuilt_with(None, LiveMembers::Refuse).await
    }

    async fn rebuilt_with(
        &self,
        on_host: Option<HostRecovery>,
        members: LiveMembers,
    ) -> Result<EbsRecoveryReport> {
        let reader = self.repository.reader(&self.shard);
        let manifest = reader.manifest(&self.backups().await[0]).await.unwrap();
        let zones = ["eu-a", "eu-b"].map(|zone| (zone.to_owned(), format!("subnet-{zone}")));
        let request = EbsRecoveryRequest {
            shard: self.shard.clone(),
            target: "latest".to_owned(),
            backup_id: manifest.facts.backup_id.clone(),
            into: self.dir.path().join("into"),
            subnets: BTreeMap::from(zones),
            on_host,
            members,
            timeline: None,
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

/// After a total loss there is no primary to ask: neither for its zone nor to follow.
#[tokio::test]
async fn rebuild_lets_the_instance_recover_itself_for_another_ending() {
    for lost in [false, true] {
        let world = World::with_volume_backup().await;
        if lost {
            world.fail("members");
        }
        let on_host = HostRecovery {
            arguments: ["orders", "--to", "latest"].map(str::to_owned).into(),
            ending: "--as-primary".to_owned(),
            configuration: "/etc/backstop/instance.toml".into(),
        };
        let refused = world.rebuilt_with(Some(on_host.clone()), LiveMembers::Refuse).await.unwrap_err();
        let why = if lost { ErrorKind::Failed } else { ErrorKind::Refused };
        assert_eq!((refused.kind, steps(&world.took())), (why, "[decide] state tagged members".to_owned()));
        let report = world.rebuilt_with(Some(on_host.clone()), LiveMembers::Disregard).await.unwrap();
        let zone = if lost { "" } else { " zone" };
        assert_eq!(
            steps(&world.took()),
            format!(
                "[decide] state tagged members{zone} [apply] apply [configure] playbook [protect] apply [loaded] \
                 volumes [hand_over]"
            )
        );
        assert!(world.told("on the instance: orders --to latest --as-primary --port 3306 --listen db9"));
        assert_eq!((report.joined, report.transactions_replayed), (false, 3));
        assert!(report.next.contains(&"on the instance: look".to_owned()), "{:?}", report.next);
        let again = world.rebuilt_with(Some(on_host), LiveMembers::Disregard).await.unwrap();
        assert_eq!(
            (again.transactions_replayed, again.joined),
            (3, false),
            "a repeated command reports the same"
        );
        assert_eq!(
            world.rebuilt().await.unwrap_err().kind,
            ErrorKind::Refused,
            "it was begun with another ending"
        );
    }
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
