//! Configuration and credentials, written as a user would write them, and read as every command
//! reads them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use backstop_config::settings;
use backstop_testbed::Shard;
use backstop_types::error::{Result, ResultExt};
use backstop_types::ids::{Endpoint, ShardName};

use super::steps::DemoSteps;
use super::workdir::DemoDir;
use super::{DEMO_SHARD, Demo, nested_context};
use crate::app::App;

/// Returns the shard's name in the configuration.
pub(super) fn shard_name() -> Result<ShardName> {
    DEMO_SHARD.parse().failed("cannot parse the name of the shard")
}

/// Writes both files and builds the context of the commands. Ignores the environment: a variable
/// for real shards must not lead the demo to them.
pub(super) fn app(
    demo: &Demo,
    place: &DemoDir,
    program: &Path,
    shard: &Shard,
    steps: &mut DemoSteps<'_>,
) -> Result<App> {
    steps.begin("configure");
    let (file, secret) = (place.path("backstop.toml"), place.path("credentials.toml"));
    let text = configuration(place, program, &secret, &shard.endpoints(), !demo.keep);
    write(&file, &text)?;
    write(&secret, &credentials(shard.password()))?;
    let settings = settings::parse(&text, &file.display().to_string())?;
    steps.end(format!("{} and credentials with the grants of docs/grants.md only", file.display()));
    Ok(App::new(settings, Some(file), nested_context(steps.ctx)))
}

fn configuration(
    place: &DemoDir,
    program: &Path,
    secret: &Path,
    members: &[Endpoint],
    archived: bool,
) -> String {
    let quoted = |text: String| format!("'{text}'");
    let list: Vec<String> = members.iter().map(|member| quoted(member.to_string())).collect();
    let candidate = members.get(1).map(|member| format!(", candidate = {}", quoted(member.to_string())));
    let path = |path: &Path| path.display().to_string();
    format!(
        "[repository]\n\
         url = {repository}\n\
         create = \"if-empty\"\n\
         \n\
         [mysql]\n\
         server = {program}\n\
         \n\
         [shards.{DEMO_SHARD}]\n\
         credentials = {{ file = {secret} }}\n\
         topology = {{ members = [{list}]{candidate} }}\n\
         snapshot = {{ provider = \"auto\", work_dir = {work} }}\n\
         schedule = \"cron(55 23 * * ? *)\"\n\
         retention = {{ keep_all = \"2d\", daily = 14, weekly = 8, monthly = 12 }}\n\
         {archive}",
        repository = quoted(format!("file://{}", path(&place.path("repository")))),
        program = quoted(path(program)),
        secret = quoted(path(secret)),
        work = quoted(path(&place.path("w"))),
        list = list.join(", "),
        candidate = candidate.unwrap_or_default(),
        archive = if archived {
            "archive = { from = \"primary\", semi_sync = true, ack = \"store\" }\n"
        } else {
            ""
        },
    )
}

fn credentials(password: &str) -> String {
    format!(
        "user = \"backstop\"\n\
         password = \"{password}\"\n\
         replication_user = \"backstop_replication\"\n\
         replication_password = \"{password}\"\n"
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    let failure = format!("cannot write {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).failed(&failure)?;
    file.write_all(text.as_bytes()).failed(failure)
}
