//! Recoveries on this host, up to the start of a server.

use std::path::Path;

use async_trait::async_trait;
use backstop_config::extra_options::ExtraOptions;
use backstop_engine::ports::{AdminAccess, AdminSession, CheckDepth, MysqldStart};
use backstop_engine::recover::{CopyAccount, DataSource, LiveMembers, Recovery, RecoveryRequest, recover};
use backstop_engine::report::RecoverReport;
use backstop_policy::plan::Ending;
use backstop_policy::scheduled_events::EventsSetting;
use backstop_types::error::{Error, ErrorKind, Result};

use crate::fakes::{World, primary, steps};

/// Access to a server that does not let its administrator in.
struct NoAdmin;

#[async_trait]
impl AdminAccess for NoAdmin {
    async fn prepare(&self, _: &Path) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    async fn session(&self, _: &MysqldStart, _: &Path) -> Result<Box<dyn AdminSession>> {
        Err(Error::failed("the administrator is not let in"))
    }
}

impl World {
    async fn recovered(&self, ending: Ending) -> Result<RecoverReport> {
        let request = RecoveryRequest {
            shard: self.shard.clone(),
            target: "latest".to_owned(),
            backup_id: self.backups().await[0].clone(),
            replay: None,
            into: self.dir.path().join("into"),
            data: DataSource::Repository,
            port: None,
            listen: None,
            check: CheckDepth::Quick,
            ending,
            members: LiveMembers::Refuse,
            server_user: None,
            own: ExtraOptions::default(),
            tls: None,
            accept_broken: Vec::new(),
            copy_login: CopyAccount::Without,
            events: EventsSetting::Print,
        };
        let story = Recovery {
            reader: &self.repository.reader(&self.shard),
            archive: &self.repository.archive(&self.shard),
            repository: &self.repository,
            mysqld: &self.fakes,
            admin: &NoAdmin,
            topology: &self.fakes,
            ctx: &self.ctx(),
            request,
        };
        recover(&story).await
    }
}

async fn with_backup() -> World {
    let world = World::new().await;
    world.back_up().await.unwrap();
    world.took();
    world
}

#[tokio::test]
async fn recovery_leaves_no_directory_if_the_server_program_is_too_old() {
    let world = with_backup().await;
    *world.script().version.lock().unwrap() = "8.4.0";
    assert_eq!(world.recovered(Ending::Standalone).await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(steps(&world.took()), "[decide] version");
    assert!(!world.dir.path().join("into").exists());
}

#[tokio::test]
async fn recovery_asks_no_member_if_the_server_stays_alone() {
    let world = with_backup().await;
    world.fail("members");
    world.recovered(Ending::Standalone).await.unwrap_err();
    assert!(!steps(&world.took()).contains("members"));
}

#[tokio::test]
async fn recovery_refuses_to_join_a_primary_that_lacks_the_backup() {
    let world = with_backup().await;
    world.set_members(vec![primary(1, "A:1-5")]);
    let error = world.recovered(Ending::Join).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("the shard's primary lacks"), "{error}");
    assert!(!world.dir.path().join("into").exists());
}

#[tokio::test]
async fn recovery_refuses_a_new_primary_beside_a_living_one() {
    let world = with_backup().await;
    assert_eq!(world.recovered(Ending::AsPrimary).await.unwrap_err().kind, ErrorKind::Refused);
    assert!(!world.dir.path().join("into").exists());
}

#[tokio::test]
async fn recovery_stops_its_server_after_a_fault_and_keeps_its_decisions() {
    let world = with_backup().await;
    let error = world.recovered(Ending::Standalone).await.unwrap_err();
    assert!(error.hint.unwrap().contains("repeat the same command to resume"));
    let took = steps(&world.took());
    assert!(took.starts_with("[decide] version [materialise] [configure] [start]"), "{took}");
    assert!(took.ends_with("stop"), "{took}");
    world.recovered(Ending::Standalone).await.unwrap_err();
    assert!(steps(&world.took()).starts_with("[start]"), "finished steps are not repeated");
    assert_eq!(world.recovered(Ending::Join).await.unwrap_err().kind, ErrorKind::Refused);
}
