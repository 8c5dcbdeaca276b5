//! Identity of the credentials, and the regions of the configuration.

use std::collections::BTreeSet;

use backstop_config::settings::{RepositoryUrl, SecretRef};
use backstop_policy::first_day::{AccountAnswer, IDENTITY, REGION};
use backstop_types::error::{Error, ErrorKind, Result};

use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::client::AwsClient;
use crate::error::AwsCall;
use crate::secrets_manager;

/// Account and principal of the credentials.
struct Caller {
    account: String,
    arn: String,
}

/// Asks who the credentials belong to, and compares accounts and regions with the configuration.
pub(super) async fn ask(
    aws: &AwsClient,
    asked: &AccountQuestions,
    shards: &[&ShardQuestions],
) -> Vec<AccountAnswer> {
    let mut answers = Vec::new();
    match asked.in_time("read the identity", caller(aws)).await {
        Ok(caller) => answers.extend(of_caller(&caller, aws.region(), &configured_accounts(shards))),
        Err(error) => answers.push(refused(&error)),
    }
    answers.extend(regions(aws.region(), asked, shards));
    answers
}

async fn caller(aws: &AwsClient) -> Result<Caller> {
    let call = AwsCall { doing: "read the identity", action: "sts:GetCallerIdentity", region: aws.region() };
    let answer = aws_sdk_sts::Client::new(aws.config()).get_caller_identity().send().await;
    let answer = answer.map_err(|error| call.error(&error))?;
    Ok(Caller { account: answer.account.unwrap_or_default(), arn: answer.arn.unwrap_or_default() })
}

fn refused(error: &Error) -> AccountAnswer {
    let answer = match error.kind {
        ErrorKind::Denied => IDENTITY.problem(&error.message),
        _ => IDENTITY.not_checked(&error.message),
    };
    match &error.hint {
        Some(hint) => answer.todo(hint),
        None => answer,
    }
}

fn of_caller(caller: &Caller, region: &str, configured: &BTreeSet<String>) -> Vec<AccountAnswer> {
    let Caller { account, arn } = caller;
    let mut answers = Vec::new();
    let others: Vec<_> = configured.iter().filter(|one| *one != account).cloned().collect();
    if !others.is_empty() {
        let others = others.join(", ");
        let what = format!("the credentials are of account {account}, and the configuration names {others}");
        answers.push(IDENTITY.warning(what));
    }
    if arn.ends_with(":root") {
        let what = format!("{arn} is the root user, which no policy limits");
        answers.push(IDENTITY.warning(what).todo("use a role with the policies of the modules"));
    }
    if answers.is_empty() {
        answers.push(IDENTITY.ok(format!("{arn}, account {account}, Region {region}")));
    }
    answers
}

/// Returns the accounts in the ARNs of the shards' secrets.
fn configured_accounts(shards: &[&ShardQuestions]) -> BTreeSet<String> {
    let arns = shards.iter().filter_map(|one| match &one.settings.credentials {
        SecretRef::SecretsManager(id) => id.strip_prefix("arn:"),
        _ => None,
    });
    let accounts = arns.filter_map(|arn| arn.split(':').nth(3)).filter(|account| !account.is_empty());
    accounts.map(str::to_owned).collect()
}

fn regions(region: &str, asked: &AccountQuestions, shards: &[&ShardQuestions]) -> Vec<AccountAnswer> {
    let mut answers = Vec::new();
    for one in shards {
        if let SecretRef::SecretsManager(id) = &one.settings.credentials
            && let Some(other) = secrets_manager::region_of(id).filter(|other| *other != region)
        {
            let what = format!("the secret {id} is in {other}, and the instances are in {region}");
            answers.push(REGION.warning(what).of_shard(&one.shard));
        }
    }
    if let RepositoryUrl::S3(s3) = &asked.repository
        && let Some(other) = s3.region.as_ref().filter(|other| *other != region)
    {
        answers.push(REGION.warning(format!(
            "the repository {} is in {other}, and the instances are in {region}",
            asked.repository
        )));
    }
    if answers.is_empty() {
        answers.push(REGION.ok(format!("all that the configuration names is in {region}")));
    }
    answers
}
