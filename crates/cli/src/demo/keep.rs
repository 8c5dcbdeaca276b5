//! Artefacts that `--keep` leaves, with the commands that use and remove them.

use std::path::Path;

use backstop_engine::report::DemoReport;
use backstop_testbed::{Shard, processes};
use backstop_types::error::{Result, ResultExt};
use backstop_types::ids::Endpoint;
use serde::Serialize;

use super::workdir::DemoDir;

/// Output of `demo --json`: the report, and with `--keep` the artefacts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoResult {
    /// Steps and results.
    #[serde(flatten)]
    pub report: DemoReport,
    /// Artefacts that keep running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptDemo>,
}

/// Artefacts that `--keep` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptDemo {
    /// Working directory.
    pub dir: String,
    /// Configuration, for further commands.
    pub config: String,
    /// Commands that connect to the servers, by role.
    pub connect: Vec<(String, String)>,
    /// Command that shows the shard's state.
    pub status: String,
    /// Command that removes everything.
    pub remove: String,
}

impl DemoResult {
    pub(super) fn new(report: DemoReport, kept: Option<KeptDemo>) -> Self {
        Self { report, kept }
    }
}

/// Keeps the servers running after the demo. The lost one is no member any more.
pub(super) fn keep(place: &DemoDir, program: &Path, shard: Shard, lost: &Endpoint) -> Result<KeptDemo> {
    let file = place.path("backstop.toml");
    let text = std::fs::read_to_string(&file).failed("cannot read the configuration")?;
    let text = text.replace(&format!(", candidate = '{lost}'"), "").replace(&format!(", '{lost}'"), "");
    std::fs::write(&file, text).failed("cannot write the configuration")?;
    let client = Some(program.with_file_name("mysql")).filter(|client| client.is_file());
    let client = client.unwrap_or_else(|| "mysql".into());
    let connect = |part: &str, socket: &Path| {
        (part.to_owned(), format!("{} --socket={} --user=root", client.display(), socket.display()))
    };
    // The candidate, which was between these two, is lost.
    let parts = ["primary", "replica"].into_iter().zip(&shard.members);
    let mut commands: Vec<_> = parts.map(|(part, member)| connect(part, member.socket())).collect();
    commands.push(connect("rebuilt", &place.path("rebuilt/mysqld.sock")));
    shard.members.into_iter().for_each(backstop_testbed::LocalServer::keep);
    let pids: Vec<String> = processes::servers_in(place.dir()).iter().map(u32::to_string).collect();
    let (dir, config) = (place.dir().display(), place.path("backstop.toml").display().to_string());
    let backstop = std::env::current_exe().unwrap_or_else(|_| "backstop".into());
    Ok(KeptDemo {
        connect: commands,
        status: format!("{} --config {config} status", backstop.display()),
        remove: format!("kill -9 {}; rm -rf {dir}", pids.join(" ")),
        dir: dir.to_string(),
        config,
    })
}
