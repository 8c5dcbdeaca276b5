//! Reports of commands that set up a host, and the runbook pages.

use std::path::Path;

use backstop_engine::report::{DraftReport, InitReport};
use backstop_testkit::frozen::frozen;
use uuid::Uuid;

use super::{of, printed, server};
use crate::output;
use crate::render::{RescuePage, Situations};
use crate::runbooks::{RUNBOOKS, Runbook, RunbookValues};
use crate::systemd::{self, archiver_unit, units};

#[test]
fn init_json_stays_the_same() {
    let whole = InitReport {
        repository: Some(Uuid::from_u128(0x1234)),
        url: "s3://bucket/mysql".into(),
        made: true,
        encrypted: true,
        pinned: false,
    };
    printed("init", &[whole.clone(), InitReport { repository: None, ..whole }]);
    let draft = DraftReport {
        file: "/etc/backstop.toml".into(),
        shard: of("orders"),
        members: vec![server("db1"), server("db2")],
        candidate: Some(server("db2")),
        unknown: vec!["db3:3306".into()],
    };
    printed("init.from", &[draft.clone(), DraftReport { candidate: None, ..draft }]);
}

#[test]
fn schedule_json_stays_the_same() {
    let (shard, schedule) = (of("orders"), of("cron(55 23 * * ? *)"));
    let run = systemd::ScheduledRun {
        shard: &shard,
        schedule: &schedule,
        program: Path::new("/usr/bin/backstop"),
        config: Path::new("/etc/backstop.toml"),
        options: &[],
        writes: &["/var/lib/backstop".into()],
    };
    // The units' content may change; their names may not.
    let (mut units, mut archiver) =
        (units(&run).unwrap(), archiver_unit(&shard, run.program, run.config, &[], run.writes));
    for unit in [&mut units.service, &mut units.timer, &mut archiver.service] {
        unit.content = "…".into();
    }
    printed("schedule", &[units]);
    printed("archive.systemd", &[archiver]);
}

#[test]
fn rescue_json_stays_the_same() {
    let page = Runbook { name: "a-name", text: "# A title\n\n## A step\n\n```sh\nbackstop status\n```\n" };
    let values = RunbookValues::default();
    let notes = vec!["a note".to_owned()];
    let whole = RescuePage::new(&page, Some(of("orders")), &values, notes, false);
    printed("rescue", &[whole, RescuePage::new(&page, None, &values, Vec::new(), true)]);
    // Titles may change; the names of situations may not.
    let list = output::json(&Situations::all()).unwrap();
    let untitled = |list: String, page: &Runbook| list.replacen(page.title(), "…", 1);
    frozen("rescue.list.json", &RUNBOOKS.iter().fold(list, untitled));
}
