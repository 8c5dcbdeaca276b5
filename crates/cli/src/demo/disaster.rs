//! What the archive is for: a table that was dropped comes back, and a shard that has lost all its servers too.

use std::process::Stdio;
use std::time::Duration;

use backstop_adapters::mysql::connect::Connection;
use backstop_engine::world::World;
use backstop_lab::member::root;
use backstop_lab::{Ledger, Load, Member, Shard, processes};
use backstop_model::fault::{Context, Fault, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::report::{DroppedTable, FindReport, Found, RecoverReport, TotalLoss};
use tokio::process::{Child, Command};

use super::place::Place;
use super::steps::Steps;
use super::{SOME, configure, recovery};
use crate::args::{EndingArgs, FindArgs, FoundKind};
use crate::commands::{find, recover};
use crate::compose::App;
use crate::human;

/// The table that somebody drops.
const TABLE: &str = "shop.orders";
/// How long the archiver may take for what is there already.
const ARCHIVED: Duration = Duration::from_secs(60);
/// The primary waits for the archiver, for ever.
const PLUGIN: &str = "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'";
const SEMI_SYNC: [&str; 5] = [
    "SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC'",
    "SET GLOBAL rpl_semi_sync_source_timeout = 4294967295",
    "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 1",
    "SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON",
    "SET GLOBAL rpl_semi_sync_source_enabled = ON",
];

/// `backstop archive`, as a process of its own. Killed when dropped.
pub(super) struct Archiver {
    child: Child,
}

impl Archiver {
    /// Starts it, waits until everything is archived, and lets the primary wait for it from then on.
    pub(super) async fn start(
        app: &App,
        shard: &Shard,
        place: &Place,
        steps: &mut Steps<'_>,
    ) -> Result<Self> {
        steps.begin("archive");
        shard.primary()?.run(&[PLUGIN]).await?;
        let program = std::env::current_exe().failed("find this program")?;
        let log = std::fs::File::create(place.path("archiver.log")).failed("create the archiver's log")?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BACKSTOP_") {
                command.env_remove(name);
            }
        }
        command.arg("--config").arg(place.path("backstop.toml")).args(["archive", super::SHARD]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command.spawn().failed("start the archiver")?;
        let primary = shard.primary()?;
        let held = primary.gtid_executed().await?;
        archived(app, &held, steps.world).await?;
        primary.run(&SEMI_SYNC).await?;
        steps.end(format!(
            "backstop archive streams the primary's binlog; {} transactions are archived, and from now on a commit is acknowledged when it is, too",
            held.count()
        ));
        Ok(Self { child })
    }

    async fn kill(mut self) -> Result<()> {
        self.child.kill().await.failed("kill the archiver")
    }
}

/// Waits until the archive has this.
async fn archived(app: &App, set: &GtidSet, world: &World) -> Result<()> {
    let reader = app.repository().await?.archive(&configure::shard_name()?);
    let begun = world.clock.monotonic();
    loop {
        let archive = reader.contents().await?;
        let held = archive.current().and_then(|line| archive.held(line.number)).unwrap_or_default();
        if set.is_subset_of(&held) {
            return Ok(());
        }
        if world.clock.monotonic() - begun > ARCHIVED {
            return Err(Fault::failed(format!(
                "archive: `{}` is not there after {ARCHIVED:?}",
                set.subtract(&held)
            )));
        }
        world.clock.sleep(Duration::from_millis(50)).await;
    }
}

/// Somebody drops a table; the archive tells when, and a recovery to just before it has the table as it was.
pub(super) async fn drop_table(
    app: &App,
    shard: &Shard,
    ledger: &Ledger,
    place: &Place,
    steps: &mut Steps<'_>,
) -> Result<DroppedTable> {
    steps.begin("drop a table by mistake");
    let primary = shard.primary()?;
    let rows = primary.value(&format!("SELECT COUNT(*) FROM {TABLE}")).await?;
    let sum = checksum(&mut primary.root().await?).await?;
    primary.run(&[format!("DROP TABLE {TABLE}")]).await?;
    ledger.wait_for_more(SOME).await?;
    steps.end(format!(
        "DROP TABLE {TABLE} on the primary, with {rows} rows in it; writes to other tables go on"
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
        "a standalone copy on port {}, {} replayed; {TABLE} is {}",
        report.server.port,
        human::count(report.transactions_replayed, "transaction"),
        if same { "there, with its checksum" } else { "NOT THE SAME" }
    ));
    processes::kill_on(std::path::Path::new(&report.server.datadir))?;
    Ok(DroppedTable { same, found, recover: report })
}

async fn search(app: &App) -> Result<Found> {
    let args = FindArgs {
        shard: configure::shard_name()?,
        from: None,
        until: None,
        time_zone: None,
        table: Some(TABLE.parse().map_err(Fault::failed)?),
        kind: Some(FoundKind::Ddl),
        rows: None,
        line: None,
        limit: 100,
    };
    let FindReport { transactions, .. } = find::perform(&args, app).await?;
    let is_drop = |found: &Found| found.statement.as_ref().is_some_and(|text| text.starts_with("DROP TABLE"));
    let dropped = transactions.into_iter().find(is_drop);
    dropped.ok_or_else(|| Fault::failed(format!("find the DROP of {TABLE}: it is not in the archive")))
}

async fn checksum(session: &mut Connection) -> Result<Option<u64>> {
    let (_, sum): (String, Option<u64>) = session.one(&format!("CHECKSUM TABLE {TABLE}")).await?;
    Ok(sum)
}

/// A writer that goes on until its server is gone.
pub(super) async fn writer(shard: &Shard) -> Result<Ledger> {
    Ledger::start(shard.primary()?, Load::Entries).await
}

/// All servers die, with their files, and the archiver with its spool. A new primary is made of backup and archive.
pub(super) async fn lose_everything(
    app: &App,
    mut shard: Shard,
    archiver: Archiver,
    ledger: Ledger,
    place: &Place,
    steps: &mut Steps<'_>,
) -> Result<TotalLoss> {
    steps.begin("lose everything");
    ledger.wait_for_more(SOME).await?;
    let clock = &steps.world.clock;
    let lost_at = clock.monotonic();
    shard.members.iter().try_for_each(Member::kill)?;
    processes::kill_all(place.dir())?;
    archiver.kill().await?;
    shard.members.clear();
    for folder in ["rebuilt", "w"] {
        std::fs::remove_dir_all(place.path(folder)).failed(format!("delete {folder}"))?;
    }
    let written = ledger.stop().await?;
    steps.end("every server killed with SIGKILL while it was written to, the archiver too; their files and the spool deleted".to_owned());

    steps.begin("recover a new primary");
    let ending = EndingArgs { join: false, standalone: false, as_primary: true };
    let report = recover::perform(app, &recovery(place, "primary", "latest", ending)?).await?;
    let rto = (steps.world.clock.monotonic() - lost_at).as_secs_f64();
    let mut session = root(std::path::Path::new(&report.server.socket)).await?;
    let lost = written.missing_on(&mut session).await?.len() as u64;
    session.run("INSERT INTO ledger.entries (id, value) VALUES (18446744073709551615, 0)").await?;
    let acknowledged = written.rows.len() as u64;
    steps.end(told(&report, acknowledged, lost, rto));
    Ok(TotalLoss {
        acknowledged_commits: acknowledged,
        lost_commits: lost,
        rto_seconds: rto,
        recover: report,
    })
}

fn told(report: &RecoverReport, acknowledged: u64, lost: u64, rto: f64) -> String {
    format!(
        "it takes writes on port {}, {} replayed; of {} acknowledged commits {lost} are lost: RPO 0 kept: {}; RTO {}",
        report.server.port,
        human::count(report.transactions_replayed, "transaction"),
        human::thousands(acknowledged),
        if lost == 0 { "yes" } else { "NO" },
        human::seconds(rto),
    )
}
