//! `backstop recover`.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use backstop_adapters::mysql::recovered::RecoveredAccess;
use backstop_adapters::mysql::server_tls;
use backstop_engine::access::Access;
use backstop_engine::plan::{self, Stored, Wanted};
use backstop_engine::ports::{CheckDepth, ServerPrograms as _, Topology};
use backstop_engine::recover::{self, CopyLogin, DataFrom, MembersThatAnswer, Recover, RecoverRequest};
use backstop_model::credentials::{Credentials, OrchestratorAccess};
use backstop_model::events::EventsWish;
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::own_options::{NamedPlace, OwnOptions};
use backstop_model::plan::{Ending, RecoveryPlan};
use backstop_model::report::RecoverReport;
use backstop_model::settings::ServerTls;
use backstop_model::shell::word;
use backstop_model::target::WrittenTarget;
use backstop_model::topology::Member;
use backstop_repo::Repository;

use super::{Ended, known_or_stored, rebuild, times};
use crate::args::{CheckArg, EventsArg, RecoverArgs, TargetArgs};
use crate::compose::App;
use crate::output::Output;

/// Rebuilds a server and says how to go on, or shows the plan.
///
/// # Errors
/// As [`perform`].
pub async fn run(args: &RecoverArgs, app: &App, output: &Output) -> Result<Ended> {
    // Once for all that is planned: `-20m` would be later each time.
    let to = times::target(&args.target, &app.world)?.map(WrittenTarget::Sure);
    let args = &RecoverArgs { target: TargetArgs { to, ..args.target.clone() }, ..args.clone() };
    if rebuild::is_meant(args, app).await? {
        return rebuild::run(args, app, output).await;
    }
    if args.plan {
        let (_, plan, _) = prepared(args, app).await?;
        recover::target(&args.into, data_from(args), args.port, args.listen.as_ref())?;
        output.report_in(&plan, args.target.time_zone);
    } else {
        output.report_in(&perform(app, args).await?, args.target.time_zone);
    }
    Ok(Ended::Well)
}

/// Plans a recovery and carries it out.
///
/// # Errors
/// As [`plan::plan`] and [`recover::recover`].
pub async fn perform(app: &App, args: &RecoverArgs) -> Result<RecoverReport> {
    let (repository, plan, request) = prepared(args, app).await?;
    let (topology, servers) = outside(args, app)?;
    let story = Recover {
        reader: &repository.reader(&args.shard),
        archive: &repository.archive(&args.shard),
        repository: &repository,
        programs: &app.servers(),
        servers: &servers,
        topology: &*topology,
        world: &app.world,
        request,
    };
    app.world.reporter.remark(&format!("recovering from backup {}: {}", plan.backup_id, plan.why));
    plan.notices().iter().for_each(|notice| app.world.reporter.notice(notice));
    let mut report = recover::recover(&story).await?;
    report.latest = plan.latest;
    if args.systemd {
        report.next.push(unit(args, app, &report)?);
    }
    Ok(report)
}

/// Looks at all that is given, plans, and says in the plan which settings of the donor the server will lack. Touches nothing.
async fn prepared(args: &RecoverArgs, app: &App) -> Result<(Repository, RecoveryPlan, RecoverRequest)> {
    let members = members_that_answer(args)?;
    let plans = async {
        let (repository, plan) = planned(args, app).await?;
        let manifest = repository.reader(&args.shard).manifest(&plan.backup_id).await?;
        Ok((repository, plan, manifest))
    };
    let (repository, mut plan, manifest) = app.world.unless_stopped(plans).await?;
    server_user(args)?;
    let (own, tls) = (own_options(args, app).await?, certificate(args, app)?);
    let request = RecoverRequest { own, tls, ..request(args, &plan, members) };
    plan.findings.extend(recover::missed(&request, &manifest));
    Ok((repository, plan, request))
}

pub(super) async fn planned(args: &RecoverArgs, app: &App) -> Result<(Repository, RecoveryPlan)> {
    let repository = app.repository().await?;
    known_or_stored(app, &repository, &args.shard).await?;
    let wanted = Wanted {
        shard: args.shard.clone(),
        target: times::target(&args.target, &app.world)?,
        line: args.target.line,
        backup: args.target.backup.clone(),
        into: Some(args.into.clone()),
        port: args.port,
        listen: args.listen.clone(),
        ending: Some(args.ending.ending()),
    };
    let stored = Stored {
        reader: &repository.reader(&args.shard),
        archive: &repository.archive(&args.shard),
        volumes: &app.volumes(&args.shard),
        now: app.world.clock.now(),
    };
    let plan = plan::plan(&stored, &wanted).await?;
    Ok((repository, plan))
}

fn request(args: &RecoverArgs, plan: &RecoveryPlan, members: MembersThatAnswer) -> RecoverRequest {
    RecoverRequest {
        shard: args.shard.clone(),
        target: plan.target.clone(),
        backup_id: plan.backup_id.clone(),
        replay: plan.replay.clone(),
        into: args.into.clone(),
        data: data_from(args),
        port: args.port,
        listen: args.listen.clone(),
        check: match args.check {
            CheckArg::Quick => CheckDepth::Quick,
            CheckArg::Full => CheckDepth::Full,
        },
        ending: args.ending.ending(),
        members,
        server_user: args.server_user.clone(),
        own: OwnOptions::default(),
        tls: None,
        accept_broken: args.accept_broken.clone(),
        copy_login: if args.copy_login { CopyLogin::Leave } else { CopyLogin::Without },
        events: match args.events {
            EventsArg::Enable => EventsWish::Enable,
            EventsArg::Print => EventsWish::Print,
        },
    }
}

fn data_from(args: &RecoverArgs) -> DataFrom {
    if args.on_volume { DataFrom::Volume } else { DataFrom::Repository }
}

/// A server never runs as root unless that was asked for.
fn server_user(args: &RecoverArgs) -> Result<()> {
    if args.server_user.is_some() || args.run_as_root || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Fault::new(Kind::Usage, "cannot start a server as root: name the user that it runs as")
        .hint("give `--server-user mysql`, or `--run-as-root` if it is to run as root"))
}

/// The operator's options, if the places that they name are there and the server program takes them.
async fn own_options(args: &RecoverArgs, app: &App) -> Result<OwnOptions> {
    let mut own = OwnOptions::default();
    let mut wrong = Vec::new();
    if let Some(path) = &args.defaults_file {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).fault(Kind::Usage, format!("read option file {file}"))?;
        wrong.extend(own.read_file(&text, &file).err().unwrap_or_default());
    }
    wrong.extend(args.server_option.iter().filter_map(|option| own.give(option).err()));
    let there = |place: &NamedPlace| if place.is_folder { place.path.is_dir() } else { place.path.is_file() };
    wrong.extend(
        own.places()
            .iter()
            .filter(|place| !there(place))
            .map(|place| format!("{}: {} is not there", place.option, place.path.display())),
    );
    if !wrong.is_empty() {
        return Err(Fault::new(Kind::Usage, format!("use the server's options: {}", wrong.join("; ")))
            .hint("nothing was touched: correct `--defaults-file` or `--server-option`"));
    }
    if !own.is_empty() {
        app.servers().accept(&own.text()).await?;
    }
    Ok(own)
}

/// The certificate for the server, if it can be used.
fn certificate(args: &RecoverArgs, app: &App) -> Result<Option<ServerTls>> {
    let of_shard = app.settings.shards.get(&args.shard).map(|shard| &shard.tls);
    let tls = of_shard.unwrap_or(&app.settings.tls).clone();
    tls.as_ref().map_or(Ok(()), server_tls::check)?;
    Ok(tls)
}

/// A primary beside living members must be asked for by the shard's name.
fn members_that_answer(args: &RecoverArgs) -> Result<MembersThatAnswer> {
    let Some(name) = &args.force_as_primary else { return Ok(MembersThatAnswer::Refuse) };
    if *name == args.shard && args.ending.as_primary {
        return Ok(MembersThatAnswer::Disregard);
    }
    let message = format!("--force-as-primary {name} does not fit a recovery of shard {}", args.shard);
    Err(Fault::new(Kind::Usage, message)
        .hint(format!("with --as-primary, repeat the shard's name: --force-as-primary {}", args.shard)))
}

/// The shard to join and the credentials for it. A recovery by itself has neither, and needs neither.
fn outside(args: &RecoverArgs, app: &App) -> Result<(Box<dyn Topology>, RecoveredAccess)> {
    match args.ending.ending() {
        Ending::Join | Ending::AsPrimary => {
            let shard = app.shard(&args.shard)?;
            Ok((app.topology(shard)?, app.recovered(shard)?))
        }
        Ending::Standalone => {
            let nobody = Credentials {
                user: String::new(),
                password: String::new().into(),
                replication: None,
                tls: None,
                orchestrator: OrchestratorAccess::default(),
            };
            Ok((Box::new(Nobody), RecoveredAccess::new(Arc::new(Access::of(nobody, app.world.clone())))))
        }
    }
}

/// The topology of a recovery that must not ask anybody.
struct Nobody;

#[async_trait]
impl Topology for Nobody {
    async fn look(&self) -> Result<Vec<Member>> {
        Err(Fault::refused("a standalone recovery asks no member of the shard"))
    }
}

/// Writes a unit for the recovered server, and says how to install it.
fn unit(args: &RecoverArgs, app: &App, report: &RecoverReport) -> Result<String> {
    let name = format!("mysqld-{}-{}.service", args.shard, report.server.port);
    let path = std::path::absolute(args.into.join(&name)).failed("find the target directory")?;
    let program = backstop_adapters::mysql::program::locate(&app.settings.mysql.server);
    let program = program.ok_or_else(|| Fault::failed(format!("find {}", app.settings.mysql.server)))?;
    let options = path.with_file_name("my.cnf");
    let user = args.server_user.as_deref();
    let content = crate::systemd::server_unit(&args.shard, &program, &options, user);
    std::fs::write(&path, content).failed(format!("write {}", path.display()))?;
    Ok(install(&path, &name, report.server.datadir.as_str()))
}

/// The command that has systemd run it, now and after a reboot.
fn install(unit: &Path, name: &str, datadir: &str) -> String {
    let (unit, pid) = (word(&unit.display().to_string()), word(&format!("{datadir}/mysqld.pid")));
    format!(
        "to have systemd run it, also after a reboot: `pid=$(cat {pid}) && kill \"$pid\" && tail --pid=\"$pid\" -f /dev/null && \
         cp {unit} /etc/systemd/system/ && systemctl daemon-reload && systemctl enable --now {name}`"
    )
}
