//! The command `backstop rescue`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_config::settings::{SecretRef, ShardSettings, TopologySettings};
use backstop_engine::backup_health::backups_with_health;
use backstop_engine::context::RunContext;
use backstop_engine::status::coverage;
use backstop_policy::coverage::Coverage;
use backstop_policy::recovery_target::{RecoveryTarget, TargetSpec};
use backstop_policy::topology::current_primary;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::{Endpoint, ShardName};

use super::{CommandOutcome, time_args};
use crate::app::{self, App};
use crate::args::{GlobalArgs, RescueArgs};
use crate::format;
use crate::output::Output;
use crate::render::{self, RescuePage, Situations};
use crate::runbooks::{self, RUNBOOKS, Runbook, RunbookValues};

/// Limit for queries of the repository: the operator needs the page now.
const REPOSITORY_TIMEOUT: Duration = Duration::from_secs(20);

/// Prints the page for a situation, with the shard's values in its commands. Changes nothing.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] for a situation without a page, if no situation is named and no
/// terminal can ask for it, and for a shard that is not configured.
pub async fn run(
    args: &RescueArgs,
    global: &GlobalArgs,
    ctx: RunContext,
    output: &Output,
) -> Result<CommandOutcome> {
    if args.list {
        output.report(&Situations::all());
        return Ok(CommandOutcome::Well);
    }
    let (runbook, args) = match &args.situation {
        Some(name) => (runbooks::find(name).ok_or_else(|| unknown(name))?, args.clone()),
        None => {
            let runbook = asked(output)?;
            (runbook, completed(args, runbook, output)?)
        }
    };
    // The same command is given again after an interruption: it must mean the same moment then.
    let moment = time_args::resolve("--at", args.at.as_ref(), args.time_zone, &ctx)?;
    let mut notes = Vec::new();
    let mut values = RunbookValues::default();
    let mut shard = args.shard.clone();
    // The configuration may be the very thing that is lost: then the page is shown with its
    // samples.
    match app::load_settings(&global.given()) {
        Ok((settings, file)) => {
            let app = App::new(settings, file, ctx);
            shard = meant(&args, &app)?;
            configured(&app, &mut values);
            match &shard {
                Some(name) => {
                    of_shard(&app, name, &mut values, &mut notes).await?;
                    notes.extend(recoverable(&app, name, moment.as_ref()).await);
                }
                None => notes.push("name a shard to fill its values into the commands".to_owned()),
            }
        }
        Err(error) => {
            notes.push(format!("the commands have sample values: the configuration cannot be read: {error}"))
        }
    }
    given(&args, moment.as_ref(), shard.as_ref(), &mut values);
    notes.extend(runbooks::left_over(runbook.text, &values).into_iter().map(|(sample, meaning)| {
        format!("REPLACE `{sample}` in the commands, which could not be filled in: {meaning}")
    }));
    output.report(&RescuePage::new(runbook, shard, &values, notes, args.page));
    Ok(CommandOutcome::Well)
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("cannot find a runbook for the situation `{name}`"))
        .hint("run `backstop rescue --list` to list the situations")
}

/// Asks for the situation.
fn asked(output: &Output) -> Result<&'static Runbook> {
    if !std::io::stdin().is_terminal() {
        let message = "cannot ask for the situation: standard input is not a terminal";
        let hint = "name it with --situation NAME; `backstop rescue --list` lists the names";
        return Err(Error::new(ErrorKind::Usage, message).hint(hint));
    }
    let list = RUNBOOKS.iter().enumerate().map(|(at, page)| format!("{:3}  {}", at + 1, page.title()));
    let question = format!("What happened? [1-{}]", RUNBOOKS.len());
    let answer = output.question(&list.collect::<Vec<_>>(), &question);
    let numbered = answer.parse::<usize>().ok().and_then(|number| RUNBOOKS.get(number.checked_sub(1)?));
    numbered.or_else(|| runbooks::find(&answer)).ok_or_else(|| unknown(&answer))
}

/// Target that the pages use as a sample.
const SAMPLE_MOMENT: &str = "before:3e11fa47-71ca-11e1-9e33-c80aa9429562:4711";
/// Target directories that the pages use as samples.
const SAMPLE_TARGETS: [&str; 2] = ["/srv/copy", "/var/lib/mysql-new"];

/// Asks for the other values that this page's commands need and that were not given. An empty
/// answer leaves the page's sample.
fn completed(args: &RescueArgs, runbook: &Runbook, output: &Output) -> Result<RescueArgs> {
    let ask = |question: &str| Some(output.question(&[], question)).filter(|answer| !answer.is_empty());
    let mut args = args.clone();
    if args.at.is_none() && runbook.text.contains(SAMPLE_MOMENT) {
        let moment = ask("Moment to recover to, as for `recover --to` [Enter: step 1 of the page finds it]:");
        let read = moment.map(|moment| moment.parse::<TargetSpec>()).transpose();
        args.at = read.map_err(|error| Error::new(ErrorKind::Usage, error.to_string()))?;
    }
    if args.into.is_none() && SAMPLE_TARGETS.iter().any(|target| runbook.text.contains(target)) {
        args.into = ask("Directory to recover into [Enter: as on the page]:").map(PathBuf::from);
    }
    Ok(args)
}

/// Returns the shard that was named, or the only one.
fn meant(args: &RescueArgs, app: &App) -> Result<Option<ShardName>> {
    if let Some(name) = &args.shard {
        return app.shard(name).map(|_| Some(name.clone()));
    }
    let mut names = app.settings.shards.keys();
    Ok(names.next().filter(|_| names.next().is_none()).cloned())
}

/// Sets the values that apply to every shard.
fn configured(app: &App, values: &mut RunbookValues) {
    if let Some(file) = &app.file {
        values.word("/etc/backstop/backstop.toml", &absolute(file));
    }
    values.word("file:///srv/backstop", &app.settings.repository.url.to_string());
    if let Some(SecretRef::File(key)) = &app.settings.repository.encryption_key {
        values.word("/etc/backstop/repository.key", &absolute(key));
    }
}

async fn of_shard(
    app: &App,
    name: &ShardName,
    values: &mut RunbookValues,
    notes: &mut Vec<String>,
) -> Result<()> {
    let settings = app.shard(name)?;
    values.word("/var/lib/backstop/work", &absolute(&settings.snapshot.work_dir));
    if let SecretRef::File(file) = &settings.credentials {
        values.word("/etc/backstop/orders.toml", &absolute(file));
    }
    if !settings.archive.as_ref().is_some_and(|archive| archive.semi_sync) {
        values.without_semi_sync();
    }
    let TopologySettings::Members { members, candidate } = &settings.topology else { return Ok(()) };
    let primary = primary(app, settings).await;
    notes.push(match &primary {
        Some(primary) => format!("{primary} is the primary now, and replaces `db1`"),
        None => {
            "no member reports that it is the primary: check which servers replace `db1` and `db2`".to_owned()
        }
    });
    if members.len() == 1 {
        notes.push("the shard has one member: there is no replica to promote or repoint".to_owned());
    }
    values.members(in_order(members, primary.as_ref(), candidate.as_ref()).into_iter().cloned().collect());
    Ok(())
}

/// Returns the current primary, if a member reports one. Each query takes seconds at most.
async fn primary(app: &App, settings: &ShardSettings) -> Option<Endpoint> {
    let members = app.topology(settings).ok()?.members().await.ok()?;
    current_primary(&members).ok().map(|(endpoint, _)| endpoint.clone())
}

/// Describes the recoverable range of the repository, and warns of a wanted moment outside it.
async fn recoverable(app: &App, shard: &ShardName, wanted: Option<&RecoveryTarget>) -> Vec<String> {
    let asked = app.ctx.within(REPOSITORY_TIMEOUT, "cannot read the repository", covered(app, shard));
    match app.ctx.unless_stopped(asked).await {
        Ok(coverage) => {
            let moments = render::moments(&coverage, format::moment);
            let mut notes = vec![format!("recoverable moments of {shard}: {moments}")];
            notes.extend(wanted.and_then(|wanted| outside(wanted, &coverage)));
            notes
        }
        Err(error) => vec![format!("cannot determine the recoverable moments: {error}")],
    }
}

async fn covered(app: &App, shard: &ShardName) -> Result<Coverage> {
    let repository = app.repository().await?;
    let reader = repository.reader(shard);
    let catalog = reader.catalog().await?;
    let backups = backups_with_health(&reader, &catalog, &app.volumes(shard)).await?;
    coverage(&repository.archive(shard), &backups).await
}

/// Returns a warning if this is a time that cannot be recovered.
fn outside(wanted: &RecoveryTarget, coverage: &Coverage) -> Option<String> {
    let RecoveryTarget::Time(at) = wanted else { return None };
    let covered = coverage.windows.iter().any(|window| (window.from..=window.to).contains(at));
    (!covered)
        .then(|| format!("WARNING: {wanted} is not one of the recoverable moments: give another with --at"))
}

/// Returns the members in the order of the pages: the primary, the candidate, the others.
fn in_order<'a>(
    members: &'a [Endpoint],
    primary: Option<&'a Endpoint>,
    candidate: Option<&'a Endpoint>,
) -> Vec<&'a Endpoint> {
    let primary = primary.or_else(|| members.iter().find(|member| Some(*member) != candidate));
    let candidate = candidate.filter(|candidate| Some(*candidate) != primary);
    let first: Vec<&Endpoint> = primary.into_iter().chain(candidate).collect();
    let others = members.iter().filter(|member| !first.contains(member));
    first.iter().copied().chain(others).collect()
}

/// Sets the values of the command line, which take precedence.
fn given(
    args: &RescueArgs,
    moment: Option<&RecoveryTarget>,
    shard: Option<&ShardName>,
    values: &mut RunbookValues,
) {
    if let Some(name) = shard {
        values.put("orders", name.as_str());
    }
    if let Some(moment) = moment {
        values.word(SAMPLE_MOMENT, &moment.to_string());
    }
    if let Some(into) = &args.into {
        SAMPLE_TARGETS.iter().for_each(|target| values.word(target, &absolute(into)));
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_policy::coverage::RecoveryWindow;
    use backstop_types::gtid::GtidSet;

    use super::*;

    #[test]
    fn members_are_in_the_order_of_the_pages() {
        let all: Vec<Endpoint> = ["a:1", "b:1", "c:1"].iter().map(|name| name.parse().unwrap()).collect();
        let [a, b, c] = &all[..] else { unreachable!() };
        assert_eq!(in_order(&all, Some(c), Some(b)), [c, b, a]);
        assert_eq!(in_order(&all, None, Some(a)), [b, a, c]);
        assert_eq!(in_order(&all, Some(b), Some(b)), [b, a, c]);
    }

    #[test]
    fn warning_is_printed_for_a_time_that_is_not_covered() {
        let at = |text: &str| -> RecoveryTarget { text.parse().unwrap() };
        let time = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let window = RecoveryWindow {
            from: time("2026-11-23T01:00:00Z"),
            to: time("2026-11-23T02:00:00Z"),
            gtid_from: GtidSet::default(),
            gtid_to: GtidSet::default(),
        };
        let coverage = Coverage { windows: vec![window], ..Coverage::default() };
        assert_eq!(outside(&at("2026-11-23T01:00:00Z"), &coverage), None);
        assert_eq!(outside(&at("latest"), &coverage), None);
        for moment in ["2026-11-23T00:59:59Z", "2026-11-23T02:00:01Z"] {
            let warning = outside(&at(moment), &coverage).unwrap();
            assert!(warning.starts_with(&format!("WARNING: {moment} ")), "{warning}");
        }
        assert!(outside(&at("2026-11-23T01:30:00Z"), &Coverage::default()).is_some());
    }
}
