//! What `--keep` leaves, and how to use and remove it.

use backstop_lab::{Shard, processes};
use backstop_model::report::DemoReport;
use serde::Serialize;

use super::place::Place;

/// `demo --json`: the report, and with `--keep` what was left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoDone {
    /// What was done and seen.
    #[serde(flatten)]
    pub report: DemoReport,
    /// What was left running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What `--keep` left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its folder.
    pub dir: String,
    /// The configuration, for further commands.
    pub config: String,
    /// Commands that connect to the servers.
    pub connect: Vec<String>,
    /// The command that removes everything.
    pub remove: String,
}

impl DemoDone {
    pub(super) fn new(report: DemoReport, kept: Option<Kept>) -> Self {
        Self { report, kept }
    }
}

/// Lets the servers outlive the demonstration.
pub(super) fn keep(place: &Place, shard: Shard) -> Kept {
    let connect = |socket: std::path::Display<'_>| format!("mysql --socket={socket} --user=root");
    let mut commands: Vec<String> =
        shard.members.iter().map(|member| connect(member.socket().display())).collect();
    commands.push(connect(place.path("rebuilt/mysqld.sock").display()));
    shard.members.into_iter().for_each(backstop_lab::Member::keep);
    let pids: Vec<String> = processes::servers_in(place.dir()).iter().map(u32::to_string).collect();
    let dir = place.dir().display().to_string();
    Kept {
        config: place.path("backstop.toml").display().to_string(),
        connect: commands,
        remove: format!("kill -9 {}; rm -rf {dir}", pids.join(" ")),
        dir,
    }
}
