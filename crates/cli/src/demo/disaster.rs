//! Recoveries that need the archive: of a dropped table, and of a shard that has lost all its
//! servers.

use std::process::Stdio;
use std::time::Duration;

use backstop_adapters::mysql::connection::Connection;
use backstop_binlog::FoundTransaction;
use backstop_engine::context::RunContext;
use backstop_engine::report::{DroppedTableDemo, FindReport, RecoverReport, TotalLossDemo};
use backstop_testbed::member::root;
use backstop_testbed::{Load, LocalServer, Shard, Workload, processes};
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use tokio::process::{Child, Command};

use super::steps::DemoSteps;
use super::workdir::DemoDir;
use super::{COMMITS_BETWEEN_STEPS, configure, recovery};
use crate::app::App;
use crate::args::{EndingArgs, FindArgs, FindKindArg};
use crate::commands::{find, recover};
use crate::format;

/// Table that is dropped by mistake.
const DROPPED_TABLE: &str = "shop.orders";
/// Limit for the archiver to archive the existing transactions.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Makes the primary wait for the archiver without a time limit.
const INSTALL_SEMI_SYNC: &str = "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'";
const SEMI_SYNC: [&str; 5] = [
    "SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC'",
    "SET GLOBAL rpl_semi_sync_source_timeout = 4294967295",
    "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 1",
    "SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON",
    "SET GLOBAL rpl_semi_sync_source_enabled = ON",
];

/// `backstop archive`, in a separate process. Killed when dropped.
pub(super) struct ArchiverProcess {
    child: Child,
}

impl ArchiverProcess {
    /// Starts the archiver, waits until everything is archived, and makes the primary wait for it
    /// from then on.
    pub(super) async fn start(
        app: &App,
        shard: &Shard,
        place: &DemoDir,
        steps: &mut DemoSteps<'_>,
    ) -> Result<Self> {
        steps.begin("archive");
        shard.primary()?.run(&[INSTALL_SEMI_SYNC]).await?;
        let program = std::env::current_exe().failed("cannot find this program")?;
        let log =
            std::fs::File::create(place.path("archiver.log")).failed("cannot create the archiver's log")?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BACKSTOP_") {
                command.env_remove(name);
            }
        }
        command.arg("--config").arg(place.path("backstop.toml")).args(["archive", super::DEMO_SHARD]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command.spawn().failed("cannot start the archiver")?;
        let primary = shard.primary()?;
        let held = primary.gtid_executed().await?;
        archived(app, &held, steps.ctx).await?;
        primary.run(&SEMI_SYNC).await?;
        steps.end(format!(
            "backstop archive streams the primary's binlog; {} transactions are archived, and from now on commits are acknowledged only when they are archived",
            held.count()
        ));
        Ok(Self { child })
    }

    async fn kill(mut self) -> Result<()> {
        self.child.kill().await.failed("cannot kill the archiver")
    }
}

/// Waits until the archive holds this set.
async fn archived(app: &App, set: &GtidSet, ctx: &RunContext) -> Result<()> {
    let reader = app.repository().await?.archive(&configure::shard_name()?);
    let begun = ctx.host.clock.monotonic();
    loop {
        let archive = reader.contents().await?;
        let held = archive.current().and_then(|line| archive.held(line.number)).unwrap_or_default();
        if set.is_subset_of(&held) {
            return Ok(());
        }
        if ctx.host.clock.monotonic() - begun > ARCHIVE_TIMEOUT {
            return Err(Error::failed(format!(
                "the archive lacks `{}` after {ARCHIVE_TIMEOUT:?}",
                set.subtract(&held)
            )));
        }
        ctx.host.clock.sleep(Duration::from_millis(50)).await;
    }
}

/// Drops a table; finds the time in the archive, and recovers the table to just before it.
pub(super) async fn drop_table(
    app: &App,
    shard: &Shard,
    workload: &Workload,
    place: &DemoDir,
    steps: &mut DemoSteps<'_>,
) -> Result<DroppedTableDemo> {
    steps.begin("drop a table by mistake");
    let primary = shard.primary()?;
    let rows = primary.value(&format!("SELECT COUNT(*) FROM {DROPPED_TABLE}")).await?;
    let sum = checksum(&mut primary.root().await?).await?;
    primary.run(&[format!("DROP TABLE {DROPPED_TABLE}")]).await?;
    workload.wait_for_more(COMMITS_BETWEEN_STEPS).await?;
    steps.end(format!(
        "DROP TABLE {DROPPED_TABLE} on the primary, with {rows} rows; writes to other tables continue"
    ));

    steps.begin("find it");
    let found = search(app).await?;
    let committed = found.committed_at.map_or("?".to_owned(), |at| at.to_rfc3339());
    let statement = found.statement.clone().unwrap_or_default();
    steps.end(format!("backstop find: `{statement}`, committed {committed}: --to {}", found.to));

    steps.begin("recover to just before it");
    let ending = EndingArgs { join: false, standalone: true, as_primary: false };
    let report = recover::perform(app, &recovery(place, "before", &found.to, ending)?).await?;
    let back = checksum(&mut root(std::path::Path::new(&report.server.socket)).await?).await?;
    let same = back.is_some() && back == sum;
    steps.end(format!(
        "a standalone copy on port {}, {} replayed; {DROPPED_TABLE} is {}",
        report.server.port,
        format::count(report.transactions_replayed, "transaction"),
        if same { "restored, with the same checksum" } else { "DIFFERENT" }
    ));
    processes::kill_on(std::path::Path::new(&report.server.datadir))?;
    Ok(DroppedTableDemo { same, found, recover: report })
}

async fn search(app: &App) -> Result<FoundTransaction> {
    let args = FindArgs {
        shard: configure::shard_name()?,
        from: None,
        until: None,
        time_zone: None,
        table: Some(DROPPED_TABLE.parse().map_err(Error::failed)?),
        kind: Some(FindKindArg::Ddl),
        rows: None,
        line: None,
        limit: 100,
    };
    let FindReport { transactions, .. } = find::perform(&args, app).await?;
    let is_drop = |found: &FoundTransaction| {
        found.statement.as_ref().is_some_and(|text| text.starts_with("DROP TABLE"))
    };
    let dropped = transactions.into_iter().find(is_drop);
    let message = format!("cannot find the DROP of {DROPPED_TABLE}: the archive lacks it");
    dropped.ok_or_else(|| Error::failed(message))
}

async fn checksum(session: &mut Connection) -> Result<Option<u64>> {
    let (_, sum): (String, Option<u64>) = session.one(&format!("CHECKSUM TABLE {DROPPED_TABLE}")).await?;
    Ok(sum)
}

/// Starts a writer that continues until its server is gone.
pub(super) async fn writer(shard: &Shard) -> Result<Workload> {
    Workload::start(shard.primary()?, Load::Entries).await
}

/// Kills all servers and removes their files, and the archiver with its spool. Rebuilds a new
/// primary from backup and archive.
pub(super) async fn lose_everything(
    app: &App,
    mut shard: Shard,
    archiver: ArchiverProcess,
    workload: Workload,
    place: &DemoDir,
    steps: &mut DemoSteps<'_>,
) -> Result<TotalLossDemo> {
    steps.begin("lose everything");
    workload.wait_for_more(COMMITS_BETWEEN_STEPS).await?;
    let clock = &steps.ctx.host.clock;
    let lost_at = clock.monotonic();
    shard.members.iter().try_for_each(LocalServer::kill)?;
    processes::kill_all(place.dir())?;
    archiver.kill().await?;
    shard.members.clear();
    for folder in ["rebuilt", "w"] {
        std::fs::remove_dir_all(place.path(folder)).failed(format!("cannot delete {folder}"))?;
    }
    let written = workload.stop().await?;
    steps.end(
        "all servers and the archiver killed with SIGKILL under load; their files and the spool deleted"
            .to_owned(),
    );

    steps.begin("recover a new primary");
    let ending = EndingArgs { join: false, standalone: false, as_primary: true };
    let report = recover::perform(app, &recovery(place, "primary", "latest", ending)?).await?;
    let rto = (steps.ctx.host.clock.monotonic() - lost_at).as_secs_f64();
    let mut session = root(std::path::Path::new(&report.server.socket)).await?;
    let lost = written.missing_on(&mut session).await?.len() as u64;
    session.run("INSERT INTO ledger.entries (id, value) VALUES (18446744073709551615, 0)").await?;
    let acknowledged = written.rows.len() as u64;
    steps.end(summary(&report, acknowledged, lost, rto));
    Ok(TotalLossDemo {
        acknowledged_commits: acknowledged,
        lost_commits: lost,
        rto_seconds: rto,
        recover: report,
    })
}

fn summary(report: &RecoverReport, acknowledged: u64, lost: u64, rto: f64) -> String {
    format!(
        "takes writes on port {}, {} replayed; {lost} of {} acknowledged commits lost; RPO 0: {}; RTO {}",
        report.server.port,
        format::count(report.transactions_replayed, "transaction"),
        format::thousands(acknowledged),
        if lost == 0 { "yes" } else { "NO" },
        format::seconds(rto),
    )
}
