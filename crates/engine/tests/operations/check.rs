//! Checks.

use backstop_engine::archive::{Encryption, ShardArchive};
use backstop_engine::check::{Check, check};
use backstop_engine::report::ShardCheck;
use backstop_policy::carried_settings::Certificates;
use backstop_types::error::ErrorKind;
use backstop_types::finding::Severity;

use crate::fakes::{World, candidate, primary, steps};

impl World {
    async fn checked(&self) -> backstop_types::error::Result<ShardCheck> {
        let story = Check {
            shard: &self.shard,
            rules: self.rules(),
            schedule: None,
            topology: &self.fakes,
            instances: &self.fakes,
            mysqld: &self.fakes,
            reader: &self.repository.reader(&self.shard),
            certificates: Certificates::OfItsOwn,
            volumes: &self.fakes,
            archived: ShardArchive {
                settings: None,
                reader: self.repository.archive(&self.shard),
                encryption: Encryption::Off,
            },
            schemas: &self.fakes,
            ctx: &self.ctx(),
        };
        check(&story).await
    }
}

fn codes(report: &ShardCheck, severity: Severity) -> Vec<&str> {
    let found = report.findings.iter().filter(|finding| finding.severity == severity);
    found.map(|finding| &*finding.code).collect()
}

#[tokio::test]
async fn check_changes_nothing() {
    let world = World::new().await;
    world.back_up().await.unwrap();
    world.took();
    world.store.take_counts();
    let report = world.checked().await.unwrap();
    assert_eq!(codes(&report, Severity::Problem), Vec::<&str>::new());
    let counts = world.store.take_counts();
    assert!(!counts.contains_key("put") && !counts.contains_key("delete"), "{counts:?}");
    assert!(steps(&world.took()).starts_with("members open check"));
}

#[tokio::test]
async fn check_turns_every_fault_into_a_finding() {
    let world = World::new().await;
    for (call, code) in [
        ("members", "no-source"),
        ("open", "source-not-usable-here"),
        ("check", "source-not-usable-here"),
        ("version", "server-program-missing"),
    ] {
        world.fail(call);
        let report = world.checked().await.unwrap();
        assert!(codes(&report, Severity::Problem).contains(&code), "{call}: {report:?}");
        world.heal();
    }
}

#[tokio::test]
async fn check_warns_of_problems_of_the_member_that_would_replace_the_source() {
    let world = World::new().await;
    world.set_members(vec![primary(1, "A:1-9"), candidate(2, "A:1-9")]);
    let report = world.checked().await.unwrap();
    let warning = report.findings.iter().find(|finding| finding.code == "no-plugin").unwrap();
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.what.contains("if db2:3306 is lost, backups stop"), "{warning:?}");
}

#[tokio::test]
async fn check_ends_if_it_is_stopped() {
    let world = World::new().await;
    world.stop_now();
    assert_eq!(world.checked().await.unwrap_err().kind, ErrorKind::Interrupted);
}
