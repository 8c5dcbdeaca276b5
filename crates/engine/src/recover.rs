//! Recovery: a new instance at the moment of a backup or at one that the archive reaches;
//! standalone, joined to its shard, or as its new primary.
//!
//! All state is in the target directory, the journal in `DIR/.backstop/`. If a recovery was
//! stopped, killed or cut off by a reboot, the same command resumes it. It needs only read access
//! to the repository, except for a new primary, which begins a new timeline of the archive.

pub(crate) mod catch_up_stall;
mod events;
#[cfg(test)]
mod frozen;
mod in_service;
pub(crate) mod join;
mod layout;
mod listen;
mod mysqld;
mod next_steps;
mod option_file;
pub(crate) mod preflight;
pub(crate) mod promote;
mod replay;
pub(crate) mod stopwatch;
mod target_dir;
mod tls;
mod volumes;

use std::path::{Path, PathBuf};

use backstop_config::extra_options::ExtraOptions;
use backstop_config::settings::ServerTls;
use backstop_host::Identity;
use backstop_policy::plan::{Ending, Replay};
use backstop_policy::plugins::plugin_findings;
use backstop_policy::scheduled_events::{EventsReport, EventsSetting};
use backstop_policy::table_check::{describe_tables, judge_tables};
use backstop_policy::tested_versions::version_finding;
use backstop_repo::{ArchiveReader, Manifest, Repository, RestoreOptions, ShardReader};
use backstop_types::backup::BrokenTable;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::{Finding, Severity};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::listen_address::ListenAddress;
use backstop_types::progress::Progress;
use serde::{Deserialize, Serialize};

use self::stopwatch::Stopwatch;
use self::target_dir::CreatedDirs;
use crate::context::RunContext;
use crate::journal::{Journal, Steps};
use crate::ports::{AdminAccess, AdminSession, CheckDepth, MysqldControl, ReadOnly, Topology};
use crate::report::{RecoverReport, RecoverSeconds, RecoveredServer};

/// Inputs of a recovery.
pub struct Recovery<'a> {
    /// Reader of the backups.
    pub reader: &'a ShardReader,
    /// Archive to replay from.
    pub archive: &'a ArchiveReader,
    /// Repository in which a new primary's timeline begins.
    pub repository: &'a Repository,
    /// Starts the server.
    pub mysqld: &'a dyn MysqldControl,
    /// Administers it until it is handed over.
    pub admin: &'a dyn AdminAccess,
    /// Members of the shard to join. A standalone recovery does not use it.
    pub topology: &'a dyn Topology,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
    /// Request of the user.
    pub request: RecoveryRequest,
}

/// Request of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryRequest {
    /// Shard of the backup.
    pub shard: ShardName,
    /// Target as the user wrote it.
    pub target: String,
    /// The backup that the plan chose.
    pub backup_id: BackupId,
    /// Transactions that the plan replays, if any are archived.
    pub replay: Option<Replay>,
    /// The target directory.
    pub into: PathBuf,
    /// Origin of the backup's files.
    pub data: DataSource,
    /// TCP port; `None`: a free one.
    pub port: Option<u16>,
    /// Addresses it listens on after the hand-over; `None`: loopback.
    pub listen: Option<ListenAddress>,
    /// Depth of the table check.
    pub check: CheckDepth,
    /// Ending of the recovery.
    pub ending: Ending,
    /// Policy of a new primary for members that answer.
    pub members: LiveMembers,
    /// User to run the server as.
    pub server_user: Option<String>,
    /// The operator's own options.
    pub own: ExtraOptions,
    /// Certificate and key of the server.
    pub tls: Option<ServerTls>,
    /// Tables (`schema.table`) that may be broken, in addition to those that the backup recorded as
    /// broken.
    pub accept_broken: Vec<String>,
    /// Account for reading a standalone copy.
    pub copy_login: CopyAccount,
    /// Setting for the events of a new primary.
    pub events: EventsSetting,
}

/// Account of a standalone copy that logs in over its socket: the shard's accounts may be bound to
/// hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyAccount {
    /// No account besides the shard's.
    Without,
    /// An additional account, with `DIR/client.cnf` for clients.
    Leave,
}

/// Origin of the backup's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// The repository: the recovery writes them into the target directory.
    Repository,
    /// Mounted volumes that were made from the backup's snapshots: the target directory holds the
    /// data directory already.
    Volumes {
        /// Mount points of those beside it, which are those of the source.
        others: Vec<PathBuf>,
    },
}

/// Policy of a recovery as primary for members of the shard that answer: two primaries make the
/// shard's data diverge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveMembers {
    /// Refuse to recover.
    Refuse,
    /// Continue: the operator has typed the shard's name.
    Disregard,
}

/// Decisions that stay the same, however often the recovery is resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryDecision {
    pub(crate) backup_id: BackupId,
    pub(crate) target: String,
    pub(crate) ending: Ending,
    pub(crate) port: u16,
    #[serde(default)]
    pub(crate) listen: Option<ListenAddress>,
    pub(crate) server_id: u32,
    #[serde(default)]
    pub(crate) replay: Option<Replay>,
}

impl RecoveryDecision {
    /// Returns the transactions to replay, if there are any.
    fn replays(&self) -> Option<&Replay> {
        self.replay.as_ref().filter(|replay| !replay.gtids.is_empty())
    }

    /// Returns the host at which clients reach the server after the hand-over: this host's name if
    /// it listens on all addresses.
    fn host(&self, identity: &dyn Identity) -> String {
        match &self.listen {
            None => "127.0.0.1".to_owned(),
            Some(listen) => listen.reachable().map_or_else(|| identity.this_process().host, str::to_owned),
        }
    }

    /// True if the server gets its own binary logs.
    fn own_logs(&self) -> bool {
        self.replays().is_some() || self.ending != Ending::Standalone
    }
}

/// Refuses the directory, port and addresses that a recovery would refuse. Changes nothing.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] with the reason, or [`ErrorKind::Held`] while another run works on
/// this recovery.
pub async fn check_target(request: &RecoveryRequest, mysqld: &dyn MysqldControl) -> Result<()> {
    preflight::check_target(request, mysqld).await?;
    let journal = request.into.join(".backstop/journal");
    if journal.is_file()
        && let Some(decided) = Journal::look(&journal)?.output("decide")?
    {
        // The server of a recovery that has begun may listen there.
        return preflight::same_request(&decided, request);
    }
    request.port.map_or(Ok(()), listen::port_is_free)?;
    let can_listen = |listen| listen::can_listen(listen, request.port.unwrap_or(0));
    request.listen.as_ref().map_or(Ok(()), can_listen)
}

/// Returns the timeline of the recovery that was begun in this directory, here or on a new instance,
/// if it replays one. A new primary's own timeline may have abandoned that since.
///
/// # Errors
/// Returns an error if its journal cannot be read.
pub fn begun_timeline(into: &Path) -> Result<Option<u32>> {
    /// What the decisions of both kinds of recovery have in common.
    #[derive(Deserialize)]
    struct Begun {
        #[serde(default)]
        replay: Option<Replay>,
        #[serde(default)]
        timeline: Option<u32>,
    }
    let journal = into.join(".backstop/journal");
    if !journal.is_file() {
        return Ok(None);
    }
    let begun: Option<Begun> = Journal::look(&journal)?.output("decide")?;
    Ok(begun.and_then(|begun| begun.replay.map(|replay| replay.timeline).or(begun.timeline)))
}

/// Returns findings about the donor's settings that the recovered server lacks and an operator may
/// miss.
pub fn dropped_settings(request: &RecoveryRequest, manifest: &Manifest) -> Vec<Finding> {
    option_file::settings(request, manifest).findings()
}

/// Recovers an instance and leaves it running.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] if a guard refuses (nothing was touched then),
/// [`ErrorKind::Damaged`] if stored data is damaged or the server does not hold exactly what the
/// manifest says, [`ErrorKind::NotRecoverable`] if the shard has purged what a joining instance
/// would need. After any fault the server is stopped and the same command resumes.
pub async fn recover(recover: &Recovery<'_>) -> Result<RecoverReport> {
    preflight::check_target(&recover.request, recover.mysqld).await?;
    let journal = recover.request.into.join(".backstop/journal");
    let footprint = CreatedDirs::make(&recover.request.into, &journal)?;
    let mut steps = Steps::open(&journal, recover.ctx)?;
    let outcome = recover.ctx.unless_stopped(run_steps(recover, &mut steps)).await;
    if outcome.is_err() && !steps.is_done("decide") {
        footprint.remove();
        return outcome;
    }
    if outcome.is_err() && !steps.is_done("hand_over") {
        mysqld::stop_unfinished(recover).await;
    }
    outcome.map_err(|error| resume_hint(error, recover))
}

async fn run_steps(recovery: &Recovery<'_>, steps: &mut Steps<'_>) -> Result<RecoverReport> {
    let begun = Stopwatch::start(recovery.ctx);
    // An earlier decision stays, even if a newer backup exists by now.
    let earlier: Option<RecoveryDecision> = steps.output("decide")?;
    let backup_id = earlier.as_ref().map_or(&recovery.request.backup_id, |decided| &decided.backup_id);
    let manifest = recovery.reader.manifest(backup_id).await?;
    let decided = steps.once("decide", preflight::decide(recovery, &manifest)).await?;
    preflight::same_request(&decided, &recovery.request)?;

    let mut seconds = RecoverSeconds::default();
    let lap = Stopwatch::start(recovery.ctx);
    steps.once("materialise", write_datadir(recovery, &manifest)).await?;
    seconds.materialise = lap.seconds();
    if !steps.is_done("hand_over") {
        volumes::folders_on_volumes(&recovery.request, &manifest)?;
    }
    steps.once("configure", option_file::configure(recovery, &manifest, &decided)).await?;

    let lap = Stopwatch::start(recovery.ctx);
    let mut checks: Vec<Finding>;
    if steps.is_done("hand_over") {
        mysqld::check_handed_over(recovery).await?;
        checks = steps.output("check")?.unwrap_or_default();
    } else {
        let mut session = recovery.ctx.step("start", mysqld::start(recovery, &manifest, &decided)).await?;
        let held = steps.once("verify", verify(&mut *session, &manifest.facts.gtid_executed)).await?;
        seconds.start = lap.seconds();
        steps.once("forget", forget_replication(&mut *session)).await?;
        checks = steps.once("check", check(recovery, &manifest, &mut *session)).await?;
        if decided.own_logs() && !steps.has_begun("replay") {
            join::set_own_gtids(recovery, steps, &mut *session, &held).await?;
        }
        let lap = Stopwatch::start(recovery.ctx);
        if let Some(plan) = decided.replays() {
            replay::replay(recovery, steps, &mut *session, &manifest, plan).await?;
        }
        seconds.replay = lap.seconds();
        let lap = Stopwatch::start(recovery.ctx);
        let mut session = finish(recovery, steps, session, &manifest, &decided).await?;
        seconds.join = lap.seconds();
        steps.once("plugins", plugins(&mut *session, &manifest)).await?;
        steps.once("hand_over", session.hand_over()).await?;
    }
    if decided.ending == Ending::Join {
        checks.extend(listed(recovery, &decided).await);
    }
    checks.extend(dropped_settings(&recovery.request, &manifest));
    seconds.total = begun.seconds();
    report(recovery, steps, &decided, checks, seconds)
}

/// Waits until the authority on the shard's members lists the joined server. The server has joined
/// in any case: the outcome is a finding.
async fn listed(recovery: &Recovery<'_>, decided: &RecoveryDecision) -> Option<Finding> {
    let host = decided.listen.is_some().then(|| decided.host(&*recovery.ctx.host.identity));
    let server = host.map(|host| Endpoint::new(&host, decided.port));
    let finding = recovery.topology.await_listed(server.as_ref()).await?;
    if finding.severity != Severity::Ok {
        recovery.ctx.reporter.notice(&finding.notice());
    }
    Some(finding)
}

/// Writes the files of the backup into `DIR/data`, unless they are in place.
async fn write_datadir(recovery: &Recovery<'_>, manifest: &Manifest) -> Result<()> {
    if let DataSource::Volumes { .. } = recovery.request.data {
        return Ok(());
    }
    let options = RestoreOptions {
        done_list: Some(recovery.request.into.join(".backstop/restored")),
        ..RestoreOptions::default()
    };
    let progress = |progress: Progress| recovery.ctx.reporter.progress(progress);
    recovery
        .reader
        .restore(manifest, &layout::target_layout(&recovery.request).datadir, &options, &progress)
        .await?;
    Ok(())
}

/// Compares the server's GTID set with the manifest's; they must be equal.
async fn verify(session: &mut dyn AdminSession, claimed: &GtidSet) -> Result<GtidSet> {
    let held = session.gtid_executed().await?;
    if held == *claimed {
        return Ok(held);
    }
    let message = format!(
        "the restored server's GTID set differs from its backup's: server `{held}`, manifest `{claimed}` \
         (missing `{}`, extra `{}`)",
        claimed.subtract(&held),
        held.subtract(claimed)
    );
    Err(Error::new(ErrorKind::Damaged, message)
        .hint("recover from another backup (`--backup ID`) and report this one"))
}

/// Removes all of the donor's replication.
async fn forget_replication(session: &mut dyn AdminSession) -> Result<()> {
    session.set_super_read_only(ReadOnly::Off).await?;
    session.forget_replication().await?;
    session.set_super_read_only(ReadOnly::Super).await
}

async fn check(
    recovery: &Recovery<'_>,
    manifest: &Manifest,
    session: &mut dyn AdminSession,
) -> Result<Vec<Finding>> {
    let tables = session.check_tables(recovery.request.check, &*recovery.ctx.reporter).await?;
    let judged = judge_tables(tables.broken, &manifest.facts.broken_tables, &recovery.request.accept_broken);
    if !judged.unexpected.is_empty() {
        return Err(broken(recovery, &judged.unexpected));
    }
    let sound = tables.checked - judged.known.len() as u64;
    let mut findings = vec![Finding::ok("tables-sound", format!("{sound} tables passed the check"))];
    findings.extend(judged.known.iter().map(known_broken));
    findings[1..].iter().for_each(|finding| recovery.ctx.reporter.notice(&finding.notice()));
    // Reported before the replay, which may need a plugin, and judged after it, with the accounts
    // of the recovered moment.
    let plugins = plugins(session, manifest).await?;
    plugins.iter().for_each(|finding| recovery.ctx.reporter.notice(&finding.notice()));
    let program = recovery.mysqld.version().await?;
    let (shard, data) = (&recovery.request.shard, &manifest.facts.server_version);
    findings.extend(version_finding(shard, "the recovered server", &program));
    if *data != program {
        findings.extend(version_finding(shard, "the server that was backed up", data));
    }
    // Findings that made the backup doubtful make the server doubtful too.
    let doubts = manifest.facts.findings.iter().filter(|finding| finding.severity == Severity::Problem);
    for finding in doubts {
        recovery.ctx.reporter.notice(&format!("when the backup was taken: {}", finding.what));
        findings.push(finding.clone());
    }
    Ok(findings)
}

fn known_broken(table: &BrokenTable) -> Finding {
    Finding::warning(
        "table-broken",
        format!(
            "table {} is broken, as recorded in the backup or accepted by this command: {}",
            table.table, table.why
        ),
        "restore it from another member, or drop it",
    )
}

/// Returns the error for broken tables without an explanation. The operator may accept the server
/// without them.
fn broken(recovery: &Recovery<'_>, tables: &[BrokenTable]) -> Error {
    let accept: Vec<_> = tables.iter().map(|each| format!("--accept-broken '{}'", each.table)).collect();
    Error::new(ErrorKind::Damaged, format!("tables are broken after recovery: {}", describe_tables(tables))).hint(format!(
        "recover from another backup (`backstop backups {}`, then `--backup ID` and another `--into`), or accept the server without them: repeat \
         the same command with {}",
        recovery.request.shard,
        accept.join(" ")
    ))
}

/// Compares the loaded plugins with those that the server needs.
async fn plugins(session: &mut dyn AdminSession, manifest: &Manifest) -> Result<Vec<Finding>> {
    Ok(plugin_findings(&manifest.facts.plugins, &session.loaded().await?))
}

/// Runs the ending, in every run: a run that was killed during the hand-over may have left the
/// server writable.
async fn finish(
    recovery: &Recovery<'_>,
    steps: &mut Steps<'_>,
    mut session: Box<dyn AdminSession>,
    manifest: &Manifest,
    decided: &RecoveryDecision,
) -> Result<Box<dyn AdminSession>> {
    match decided.ending {
        Ending::Standalone => {}
        Ending::Join => join::join(recovery, steps, &mut *session).await?,
        Ending::AsPrimary => promote::check_still_alone(recovery).await?,
    }
    // A timeline is begun after everything that can fail.
    let mut session =
        recovery.ctx.step("serve", in_service::put_in_service(recovery, manifest, decided, session)).await?;
    if decided.ending == Ending::AsPrimary {
        promote::promote(recovery, steps, &mut *session, manifest, decided).await?;
    }
    if recovery.request.copy_login == CopyAccount::Leave {
        recovery.ctx.step("copy_login", copy_login(recovery, &mut *session)).await?;
    }
    let finish = async {
        if decided.ending != Ending::AsPrimary {
            session.set_super_read_only(ReadOnly::Super).await?;
        }
        session.gtid_executed().await
    };
    steps.again("finish", finish).await?;
    Ok(session)
}

/// Creates an account to read the copy with.
async fn copy_login(recovery: &Recovery<'_>, session: &mut dyn AdminSession) -> Result<()> {
    session.set_super_read_only(ReadOnly::Off).await?;
    session
        .leave_copy_login(
            &layout::client_file(&recovery.request),
            &layout::target_layout(&recovery.request).socket,
        )
        .await?;
    session.set_super_read_only(ReadOnly::Super).await
}

fn report(
    recovery: &Recovery<'_>,
    steps: &Steps<'_>,
    decided: &RecoveryDecision,
    mut checks: Vec<Finding>,
    seconds: RecoverSeconds,
) -> Result<RecoverReport> {
    let layout = layout::target_layout(&recovery.request);
    let events: Option<EventsReport> = steps.output("events")?;
    checks.extend(steps.output::<Vec<Finding>>("plugins")?.unwrap_or_default());
    checks.extend(events.iter().flat_map(|events| events.findings.clone()));
    let next =
        next_steps::next_steps(&recovery.request, decided, events.as_ref(), &recovery.mysqld.program());
    Ok(RecoverReport {
        shard: recovery.request.shard.clone(),
        backup_id: decided.backup_id.clone(),
        target: decided.target.clone(),
        gtid_executed: steps.output("finish")?.unwrap_or_default(),
        transactions_replayed: decided.replay.as_ref().map_or(0, |replay| replay.transactions),
        server: RecoveredServer {
            host: decided.host(&*recovery.ctx.host.identity),
            port: decided.port,
            socket: layout.socket.display().to_string(),
            datadir: layout.datadir.display().to_string(),
            client_file: Some(layout::client_file(&recovery.request))
                .filter(|file| recovery.request.copy_login == CopyAccount::Leave && file.exists())
                .map(|file| file.display().to_string()),
        },
        joined: decided.ending == Ending::Join,
        ending: decided.ending,
        checks,
        seconds,
        next,
        events,
        latest: None,
    })
}

fn resume_hint(error: Error, recovery: &Recovery<'_>) -> Error {
    let begun = recovery.request.into.join(".backstop/journal").exists();
    if error.hint.is_some() || !begun || matches!(error.kind, ErrorKind::Refused | ErrorKind::Usage) {
        return error;
    }
    let dir = recovery.request.into.display();
    error.hint(format!("repeat the same command to resume, or remove {dir} to start over"))
}
