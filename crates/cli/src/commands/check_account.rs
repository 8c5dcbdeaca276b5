//! The command `backstop check --aws`.

use backstop_aws::{AccountQuestions, QUESTION_DEADLINE, ShardQuestions, check_account};
use backstop_config::settings::{ProviderSetting, TopologySettings};
use backstop_engine::report::AccountReport;
use backstop_policy::first_day::roles::AwsRole;
use backstop_policy::first_day::{AccountAnswer, REPOSITORY};
use backstop_types::create_repository::CreateRepository;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::ShardName;

use super::CommandOutcome;
use crate::app::App;
use crate::args::CheckArgs;
use crate::output::Output;

/// Asks the AWS account if the first backup, deletion and recovery of the shards would work.
///
/// # Errors
/// Returns an error if nothing could be asked: no region is known, or this build has no AWS. An
/// answer that is a problem is a result: exit code 1.
pub async fn run(args: &CheckArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let mut shards = Vec::new();
    for shard in app.shards(args.shard.as_ref())? {
        if app.shard(&shard)?.snapshot.provider == ProviderSetting::Ebs {
            shards.push(app.ctx.unless_stopped(questions(app, shard)).await?);
        }
    }
    if shards.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no such shard is backed up in EBS")
            .hint("set snapshot = { provider = \"ebs\" } for the shards on AWS"));
    }
    let roles = match args.role.as_slice() {
        [] => AwsRole::ALL.to_vec(),
        named => named.iter().map(|role| (*role).into()).collect(),
    };
    let asked = AccountQuestions {
        shards,
        roles,
        repository: app.settings.repository.url.clone(),
        deadline: QUESTION_DEADLINE,
        ctx: app.ctx.clone(),
    };
    app.ctx.reporter.step("check");
    let mut answers = app.ctx.unless_stopped(check_account(&asked)).await?;
    answers.push(app.ctx.unless_stopped(async { Ok(repository(app).await) }).await?);
    let report = AccountReport::new(answers);
    output.report(&report);
    Ok(if report.ok { CommandOutcome::Well } else { CommandOutcome::Attention })
}

async fn questions(app: &App, shard: ShardName) -> Result<ShardQuestions> {
    let settings = app.shard(&shard)?.clone();
    let members = match &settings.topology {
        TopologySettings::Members { members, .. } => Ok(members.clone()),
        TopologySettings::Orchestrator { .. } => {
            let asked = async {
                let members = app.topology(&settings)?.members().await?;
                Ok(members.into_iter().map(|member| member.endpoint).collect())
            };
            app.ctx.within(QUESTION_DEADLINE, "cannot ask orchestrator", asked).await
        }
    };
    Ok(ShardQuestions { shard, settings, members })
}

/// Checks the repository as `check` does.
async fn repository(app: &App) -> AccountAnswer {
    let url = &app.settings.repository.url;
    let within = QUESTION_DEADLINE;
    let opened = app.ctx.within(within, "cannot open the repository", app.repository_if_any()).await;
    let probed = match opened {
        Ok(repository) if !repository.exists() => {
            return match app.settings.repository.create {
                CreateRepository::IfEmpty => REPOSITORY.later(
                    format!("there is no repository at {url} yet: writes were not tried"),
                    "the first backup makes it; check again afterwards",
                ),
                CreateRepository::Never => REPOSITORY
                    .problem(format!("there is no repository at {url}"))
                    .todo("run `backstop init`, then check again"),
            };
        }
        Ok(repository) => app.ctx.within(within, "cannot test the repository", repository.probe()).await,
        Err(error) => Err(error),
    };
    match probed {
        Ok(_) => REPOSITORY.ok(format!("{url} lets only one of two runs create the same object")),
        Err(error) => {
            let answer = match error.kind {
                ErrorKind::Failed => REPOSITORY.not_checked(&error.message),
                _ => REPOSITORY.problem(&error.message),
            };
            match error.hint {
                Some(hint) => answer.todo(hint),
                None => answer,
            }
        }
    }
}
