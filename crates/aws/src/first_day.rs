//! Asks an account if the first backup, deletion and recovery would work, by reads and dry runs.
//! Changes nothing. Each question has a deadline: a service that does not answer leaves
//! `not_checked` answers.

mod actions;
mod dry_runs;
mod endpoints;
mod identity;
mod images;
mod keys;
mod secrets;
mod shards;
mod subjects;

use backstop_policy::first_day::AccountAnswer;
use backstop_policy::first_day::quotas::{ShardUsage, quota_answers};

use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::client::AwsClient;
use shards::ShardAnswers;

/// Asks about the shards of one Region, and about the account.
pub async fn ask_region(
    aws: &AwsClient,
    asked: &AccountQuestions,
    shards: &[&ShardQuestions],
) -> Vec<AccountAnswer> {
    let (mut answers, reached) =
        futures::join!(identity::ask(aws, asked, shards), endpoints::ask(aws, asked, shards));
    answers.extend(reached);
    answers.extend(actions::of_account(aws, asked).await);
    let mut found = Vec::new();
    for one in shards {
        let of_shard = Box::pin(shards::ask(aws, asked, one)).await;
        answers.extend(of_shard.answers.iter().cloned());
        found.push(of_shard);
    }
    answers.extend(keys::ask(aws, asked, &found).await);
    answers.extend(quotas(asked, shards, &found));
    answers
}

fn quotas(
    asked: &AccountQuestions,
    shards: &[&ShardQuestions],
    found: &[ShardAnswers],
) -> Vec<AccountAnswer> {
    let usage = |(one, found): (&&ShardQuestions, &ShardAnswers)| {
        let schedule = one.settings.schedule.as_ref();
        let interval = schedule.and_then(|schedule| {
            let next = schedule.next_after(asked.ctx.host.clock.now())?;
            (schedule.next_after(next)? - next).num_seconds().try_into().ok()
        });
        (interval, found.volumes.max(1), one.settings.archive.is_some())
    };
    let usage: Vec<_> = shards.iter().zip(found).map(usage).collect();
    let usage: Vec<_> = shards
        .iter()
        .zip(usage)
        .map(|(one, (interval_seconds, volumes, archived))| ShardUsage {
            retention: one.settings.retention.as_ref(),
            interval_seconds,
            volumes,
            archived,
        })
        .collect();
    quota_answers(&usage)
}
