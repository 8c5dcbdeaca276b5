//! The command `backstop recover`.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use backstop_adapters::mysql::admin_session::MysqlAdminAccess;
use backstop_adapters::mysql::server_tls;
use backstop_adapters::mysql::server_user::ServerUser;
use backstop_config::credentials::{Credentials, OrchestratorAccess};
use backstop_config::extra_options::{ExtraOptions, RequiredPath};
use backstop_config::settings::ServerTls;
use backstop_engine::ports::{CheckDepth, MysqldControl as _, Topology};
use backstop_engine::recover::{self, CopyAccount, DataSource, LiveMembers, Recovery, RecoveryRequest};
use backstop_engine::report::RecoverReport;
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_engine::shell_quote::shell_quote;
use backstop_policy::plan::{Ending, RecoveryPlan};
use backstop_policy::scheduled_events::EventsSetting;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::ids::Endpoint;
use backstop_types::topology::{ExternalVerdict, Member, NoAnswer};

use super::planned_recovery::PlannedRecovery;
use super::{CommandOutcome, recover_ebs};
use crate::app::App;
use crate::args::{CheckArg, EventsArg, RecoverArgs};
use crate::output::Output;

/// Rebuilds a server and prints the next steps, or shows the plan.
///
/// # Errors
/// As [`perform`].
pub async fn run(args: &RecoverArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let members = members_that_answer(args)?;
    let mut planned = PlannedRecovery::of(args, app).await?;
    if recover_ebs::creates_instance(args, app, &planned) {
        return recover_ebs::run(args, app, planned, members, output).await;
    }
    let request = request(args, app, &mut planned, members).await?;
    if args.plan {
        recover::check_target(&request, &app.mysqld()).await?;
        output.report_in(&planned.plan, args.target.time_zone);
    } else {
        output.report_in(&recovered(args, app, planned, request).await?, args.target.time_zone);
    }
    Ok(CommandOutcome::Well)
}

/// Plans a recovery on this host and performs it.
///
/// # Errors
/// As [`PlannedRecovery::of`] and [`recover::recover`].
pub async fn perform(app: &App, args: &RecoverArgs) -> Result<RecoverReport> {
    let members = members_that_answer(args)?;
    let mut planned = PlannedRecovery::of(args, app).await?;
    let request = request(args, app, &mut planned, members).await?;
    recovered(args, app, planned, request).await
}

/// Performs a planned recovery on this host.
async fn recovered(
    args: &RecoverArgs,
    app: &App,
    planned: PlannedRecovery,
    request: RecoveryRequest,
) -> Result<RecoverReport> {
    let PlannedRecovery { repository, plan, .. } = planned;
    let (topology, servers) = outside(args, app)?;
    let story = Recovery {
        reader: &repository.reader(&args.shard),
        archive: &repository.archive(&args.shard),
        repository: &repository,
        mysqld: &app.mysqld(),
        admin: &servers,
        topology: &*topology,
        ctx: &app.ctx,
        request,
    };
    app.ctx.reporter.remark(&format!("recovering from backup {}: {}", plan.backup_id, plan.why));
    plan.notices().iter().for_each(|notice| app.ctx.reporter.notice(notice));
    let mut report = recover::recover(&story).await?;
    report.latest = plan.latest;
    if args.systemd {
        report.next.push(unit(args, app, &report)?);
    }
    Ok(report)
}

/// Checks the arguments that concern this host, and lists in the plan the donor's settings that the
/// server will lack. Changes nothing.
async fn request(
    args: &RecoverArgs,
    app: &App,
    planned: &mut PlannedRecovery,
    members: LiveMembers,
) -> Result<RecoveryRequest> {
    let user = server_user(args).await?;
    let (own, tls) = (own_options(args, app, &user).await?, certificate(args, app)?);
    let request = RecoveryRequest { own, tls, ..plain_request(args, &planned.plan, members) };
    planned.plan.findings.extend(recover::dropped_settings(&request, &planned.manifest));
    Ok(request)
}

fn plain_request(args: &RecoverArgs, plan: &RecoveryPlan, members: LiveMembers) -> RecoveryRequest {
    RecoveryRequest {
        shard: args.shard.clone(),
        target: plan.target.clone(),
        backup_id: plan.backup_id.clone(),
        replay: plan.replay.clone(),
        into: args.into.clone(),
        data: match args.on_volume {
            true => DataSource::Volumes { others: args.volume_at.clone() },
            false => DataSource::Repository,
        },
        port: args.port,
        listen: args.listen.clone(),
        check: match args.check {
            CheckArg::Quick => CheckDepth::Quick,
            CheckArg::Full => CheckDepth::Full,
        },
        ending: args.ending.ending(),
        members,
        server_user: args.server_user.clone(),
        own: ExtraOptions::default(),
        tls: None,
        accept_broken: args.accept_broken.clone(),
        copy_login: if args.copy_login { CopyAccount::Leave } else { CopyAccount::Without },
        events: match args.events {
            EventsArg::Enable => EventsSetting::Enable,
            EventsArg::Print => EventsSetting::Print,
        },
    }
}

/// Returns the user that the server runs as, if that user can use the target directory and the
/// port. A server never runs as root unless the operator requests it.
async fn server_user(args: &RecoverArgs) -> Result<ServerUser> {
    if args.server_user.is_none() && !args.run_as_root && rustix::process::geteuid().is_root() {
        return Err(Error::new(ErrorKind::Usage, "cannot start a server as root: no user is named for it")
            .hint("give `--server-user mysql`, or `--run-as-root` to run it as root"));
    }
    let user = ServerUser::of(args.server_user.as_deref()).await?;
    user.can_reach(&args.into)?;
    args.port.map_or(Ok(()), |port| user.can_listen_on(port))?;
    Ok(user)
}

/// Returns the operator's options, if the paths that they name exist and the server program accepts
/// them.
async fn own_options(args: &RecoverArgs, app: &App, user: &ServerUser) -> Result<ExtraOptions> {
    let mut own = ExtraOptions::default();
    let mut wrong = Vec::new();
    if let Some(path) = &args.defaults_file {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .context(ErrorKind::Usage, format!("cannot read option file {file}"))?;
        wrong.extend(own.read_file(&text, &file).err().unwrap_or_default());
    }
    wrong.extend(args.server_option.iter().filter_map(|option| own.give(option).err()));
    wrong.extend(own.places().iter().filter_map(|place| unusable(place, user)));
    if !wrong.is_empty() {
        let message = format!("cannot use the server's options: {}", wrong.join("; "));
        return Err(Error::new(ErrorKind::Usage, message)
            .hint("nothing was touched: correct `--defaults-file` or `--server-option`"));
    }
    if !own.is_empty() {
        app.mysqld().check_options(&own.text()).await?;
    }
    Ok(own)
}

/// Returns the reason why the server cannot use a path, if it cannot.
fn unusable(place: &RequiredPath, user: &ServerUser) -> Option<String> {
    let (option, path) = (&place.option, place.path.display());
    let is_there = if place.is_folder { place.path.is_dir() } else { place.path.is_file() };
    if !is_there {
        return Some(format!("{option}: {path} does not exist"));
    }
    (place.is_written && !user.can_write_in(&place.path))
        .then(|| format!("{option}: user {} cannot write in {path}", user.name()))
}

/// Returns the certificate for the server, if it is usable.
fn certificate(args: &RecoverArgs, app: &App) -> Result<Option<ServerTls>> {
    let of_shard = app.settings.shards.get(&args.shard).map(|shard| &shard.tls);
    let tls = of_shard.unwrap_or(&app.settings.tls).clone();
    tls.as_ref().map_or(Ok(()), server_tls::check)?;
    Ok(tls)
}

/// Requires the shard's name as confirmation for a primary beside living members.
fn members_that_answer(args: &RecoverArgs) -> Result<LiveMembers> {
    let Some(name) = &args.force_as_primary else { return Ok(LiveMembers::Refuse) };
    if *name == args.shard && args.ending.as_primary {
        return Ok(LiveMembers::Disregard);
    }
    let message = format!("--force-as-primary {name} does not match a recovery of shard {}", args.shard);
    Err(Error::new(ErrorKind::Usage, message)
        .hint(format!("with --as-primary, repeat the shard's name: --force-as-primary {}", args.shard)))
}

/// Returns the shard to join and the credentials for it. A standalone recovery has neither, and
/// needs neither.
fn outside(args: &RecoverArgs, app: &App) -> Result<(Box<dyn Topology>, MysqlAdminAccess)> {
    match args.ending.ending() {
        Ending::Join | Ending::AsPrimary => {
            let shard = app.shard(&args.shard)?;
            Ok((app.topology(shard)?, app.admin_access(shard)?))
        }
        Ending::Standalone => {
            let empty = Credentials {
                user: String::new(),
                password: String::new().into(),
                replication: None,
                tls: None,
                orchestrator: OrchestratorAccess::default(),
            };
            Ok((
                Box::new(NoTopology),
                MysqlAdminAccess::new(Arc::new(SharedCredentials::of(empty, app.ctx.clone()))),
            ))
        }
    }
}

/// Topology of a recovery that must not query any member.
struct NoTopology;

#[async_trait]
impl Topology for NoTopology {
    async fn members(&self) -> Result<Vec<Member>> {
        Err(contacts_no_member())
    }

    async fn probe(&self, server: &Endpoint) -> Member {
        let state = Err(NoAnswer::Unreachable(contacts_no_member().message));
        Member { endpoint: server.clone(), candidate: false, state, verdict: ExternalVerdict::default() }
    }

    async fn source_settings(&self, _: &Endpoint) -> Result<SourceSettings> {
        Err(contacts_no_member())
    }
}

fn contacts_no_member() -> Error {
    Error::refused("a standalone recovery contacts no member of the shard")
}

/// Writes a unit for the recovered server, and returns the instructions to install it.
fn unit(args: &RecoverArgs, app: &App, report: &RecoverReport) -> Result<String> {
    let name = format!("mysqld-{}-{}.service", args.shard, report.server.port);
    let path = std::path::absolute(args.into.join(&name)).failed("cannot find the target directory")?;
    let program = backstop_adapters::mysql::mysqld_version::locate(&app.settings.mysql.server);
    let program =
        program.ok_or_else(|| Error::failed(format!("cannot find {}", app.settings.mysql.server)))?;
    let options = path.with_file_name("my.cnf");
    let user = args.server_user.as_deref();
    let content = crate::systemd::server_unit(&args.shard, &program, &options, user);
    std::fs::write(&path, content).failed(format!("cannot write {}", path.display()))?;
    Ok(install(&path, &name, report.server.datadir.as_str()))
}

/// Returns the command that makes systemd run the server, now and after a reboot.
fn install(unit: &Path, name: &str, datadir: &str) -> String {
    let (unit, pid) =
        (shell_quote(&unit.display().to_string()), shell_quote(&format!("{datadir}/mysqld.pid")));
    format!(
        "to run it by systemd, also after a reboot: `pid=$(cat {pid}) && kill \"$pid\" && tail --pid=\"$pid\" -f /dev/null && \
         cp {unit} /etc/systemd/system/ && systemctl daemon-reload && systemctl enable --now {name}`"
    )
}
