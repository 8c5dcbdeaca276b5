//! Keys of the volumes: their state, and EC2's grants on them. A dry run of EC2 does not test KMS.

use std::collections::BTreeMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::types::{KeyManagerType, KeyMetadata, KeyState};
use backstop_policy::first_day::{AccountAnswer, GRANT, KEY};
use backstop_types::error::{Error, Result};

use super::shards::ShardAnswers;
use crate::account_questions::AccountQuestions;
use crate::client::AwsClient;
use crate::error::{AwsCall, code};

/// Largest number of grants in one answer.
const GRANTS_PAGE: i32 = 100;

/// Asks for each key of the shards' volumes.
pub(super) async fn ask(
    aws: &AwsClient,
    asked: &AccountQuestions,
    shards: &[ShardAnswers],
) -> Vec<AccountAnswer> {
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for key in shards.iter().flat_map(|shard| &shard.keys) {
        *users.entry(key).or_default() += 1;
    }
    if users.is_empty() {
        return vec![KEY.ok("no volume that was found is encrypted with a key of KMS")];
    }
    let keys = Keys { kms: Client::new(aws.config()), region: aws.region(), asked };
    let mut answers = Vec::new();
    for (key, shards) in users {
        match keys.described(key).await {
            Ok(Some(found)) => {
                answers.push(state(key, shards, &found));
                if found.key_manager() != Some(&KeyManagerType::Aws) {
                    answers.push(keys.grants(key).await);
                }
            }
            Ok(None) => answers
                .push(KEY.problem(format!("{key} (volumes of {}) does not exist", counted(shards, "shard")))),
            Err(error) => answers.push(not_checked(KEY.not_checked(&error.message), error)),
        }
    }
    answers
}

struct Keys<'a> {
    kms: Client,
    region: &'a str,
    asked: &'a AccountQuestions,
}

impl Keys<'_> {
    async fn described(&self, key: &str) -> Result<Option<KeyMetadata>> {
        let doing = format!("describe the key {key}");
        let call = AwsCall { doing: &doing, action: "kms:DescribeKey", region: self.region };
        let work = async {
            match self.kms.describe_key().key_id(key).send().await {
                Ok(answer) => Ok(answer.key_metadata),
                Err(error) if code(&error) == Some("NotFoundException") => Ok(None),
                Err(error) => Err(call.error(&error)),
            }
        };
        self.asked.in_time(&doing, work).await
    }

    async fn grants(&self, key: &str) -> AccountAnswer {
        let doing = format!("list the grants of the key {key}");
        let call = AwsCall { doing: &doing, action: "kms:ListGrants", region: self.region };
        let work = async {
            let answer = self.kms.list_grants().key_id(key).limit(GRANTS_PAGE).send().await;
            answer.map_err(|error| call.error(&error))
        };
        match self.asked.in_time(&doing, work).await {
            Ok(found) if found.grants().is_empty() => {
                GRANT.warning(format!("{key} has no grant, and attached volumes are encrypted with it"))
            }
            Ok(found) => {
                let more = if found.truncated { "more than " } else { "" };
                GRANT.ok(format!("{key} has {more}{}", counted(found.grants().len(), "grant")))
            }
            Err(error) => not_checked(GRANT.not_checked(&error.message), error),
        }
    }
}

fn not_checked(answer: AccountAnswer, error: Error) -> AccountAnswer {
    match error.hint {
        Some(hint) => answer.todo(hint),
        None => answer,
    }
}

fn counted(count: usize, one: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {one}{ending}")
}

fn state(key: &str, shards: usize, found: &KeyMetadata) -> AccountAnswer {
    let used = format!("{key} (volumes of {})", counted(shards, "shard"));
    match found.key_state() {
        Some(KeyState::Enabled) if found.key_manager() == Some(&KeyManagerType::Aws) => KEY
            .warning(format!("{used} is AWS's own: no other account can read the snapshots"))
            .todo("encrypt with a customer managed key what another account must read"),
        Some(KeyState::Enabled) => KEY.ok(format!("{used} is enabled")),
        Some(KeyState::PendingDeletion) => {
            let at = found.deletion_date().map(|at| format!(", at {at}")).unwrap_or_default();
            KEY.problem(format!("{used} is pending deletion{at}: then no snapshot can be recovered"))
                .todo("run `aws kms cancel-key-deletion` and `aws kms enable-key`")
        }
        other => {
            let other = other.map_or("in an unknown state", KeyState::as_str);
            KEY.problem(format!("{used} is {other}: EC2 cannot use it"))
        }
    }
}
