//! The secret of a shard.

use backstop_config::secret_entry::credentials;
use backstop_config::settings::SecretRef;
use backstop_policy::first_day::{AccountAnswer, SECRET};
use backstop_types::error::{Error, ErrorKind};
use secrecy::ExposeSecret;

use super::dry_runs::Asked;
use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::client::AwsClient;
use crate::secrets_manager;

/// Reads and validates the secret. Returns none if the shard's credentials are elsewhere.
pub(super) async fn ask(
    aws: &AwsClient,
    one: &ShardQuestions,
    asked: &AccountQuestions,
) -> Option<(Asked, AccountAnswer)> {
    let SecretRef::SecretsManager(id) = &one.settings.credentials else { return None };
    let read = asked.in_time(&format!("read secret {id}"), secrets_manager::read(aws, id)).await;
    Some(match read {
        Ok(text) => (Asked::Allowed, valid(id, credentials(text.expose_secret(), id).err().map(Error::from))),
        Err(error) => {
            let answer = match error.kind {
                ErrorKind::Failed => SECRET.not_checked(&error.message),
                _ => SECRET.problem(&error.message),
            };
            let answer = match &error.hint {
                Some(hint) => answer.todo(hint),
                None => answer,
            };
            let asked = match error.kind {
                ErrorKind::Denied => Asked::Denied(error),
                // The action was allowed: the secret is not there or not text.
                ErrorKind::Usage => Asked::Allowed,
                _ => Asked::Unanswered(error),
            };
            (asked, answer)
        }
    })
}

fn valid(id: &str, fault: Option<Error>) -> AccountAnswer {
    match fault {
        None => SECRET.ok(format!("{id} is readable, and its keys are valid")),
        Some(error) => SECRET.problem(error.message),
    }
}
