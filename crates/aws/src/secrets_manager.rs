//! Reads secrets from AWS Secrets Manager, each time again, so that the next run uses a rotated
//! password.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use backstop_types::error::{Error, ErrorKind, Result};
use secrecy::SecretString;

use crate::client::AwsClient;
use crate::error::{AwsCall, code};

/// IAM action that it requires.
const IAM_ACTION: &str = "secretsmanager:GetSecretValue";

/// Returns the text of a secret. `id` is a name, or an ARN, which is looked up in its own region.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] if the secret does not exist in that region, is scheduled for
/// deletion, or is not text; [`ErrorKind::Denied`] naming the action and the secret;
/// [`ErrorKind::Failed`] if AWS throttles or cannot be reached.
pub async fn read(aws: &AwsClient, id: &str) -> Result<SecretString> {
    let aws = region_of(id).map_or_else(|| aws.clone(), |region| aws.in_region(region));
    let answer = Client::new(aws.config()).get_secret_value().secret_id(id).send().await;
    let entry = answer.map_err(|error| secret_error(&error, id, aws.region()))?;
    match entry.secret_string {
        Some(text) => Ok(SecretString::from(text)),
        None => {
            Err(Error::new(ErrorKind::Usage, format!("cannot read secret {id}: it holds bytes, not text"))
                .hint("store it as text (`SecretString`)"))
        }
    }
}

fn secret_error<R: std::fmt::Debug>(
    error: &SdkError<GetSecretValueError, R>,
    id: &str,
    region: &str,
) -> Error {
    let doing = format!("read secret {id}");
    let usage = |why: &str| Error::new(ErrorKind::Usage, format!("cannot {doing}: {why}"));
    match code(error) {
        Some("ResourceNotFoundException") => usage(&format!("no secret of that name is in region {region}"))
            .hint("check the name and the region: an ARN names its own"),
        // AWS also returns these codes for a name with invalid characters.
        Some("InvalidParameterException" | "ValidationException") => {
            usage("this is not the name or ARN of a secret").hint("write its name or its full ARN")
        }
        Some("InvalidRequestException") => usage("it cannot be read now")
            .hint("if it is scheduled for deletion, run `aws secretsmanager restore-secret`"),
        Some("DecryptionFailure") => {
            Error::new(ErrorKind::Denied, format!("cannot {doing}: its KMS key cannot be used"))
                .hint("allow the IAM action kms:Decrypt on the secret's key, also in the key's own policy")
        }
        _ => {
            let failure = AwsCall { doing: &doing, action: IAM_ACTION, region }.error(error);
            match failure.kind {
                ErrorKind::Denied if error.as_service_error().is_some() => named(failure, id),
                _ => failure,
            }
        }
    }
}

/// Adds the action and resource to allow.
fn named(error: Error, id: &str) -> Error {
    match &error.hint {
        Some(hint) if hint.contains(IAM_ACTION) => {
            error.hint(format!("allow the IAM action {IAM_ACTION} on {id}"))
        }
        _ => error,
    }
}

/// Returns the region in an ARN.
pub(crate) fn region_of(id: &str) -> Option<&str> {
    let mut parts = id.strip_prefix("arn:")?.split(':');
    parts.nth(2).filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_region() {
        assert_eq!(
            region_of("arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf"),
            Some("eu-west-1")
        );
        for name in ["prod/orders", "arn:aws", "arn:aws:secretsmanager::1:secret:x"] {
            assert_eq!(region_of(name), None, "{name}");
        }
    }
}
