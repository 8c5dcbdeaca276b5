//! Entries of AWS Secrets Manager. Asked each time, so that a rotated password is used by the next run.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use backstop_model::fault::{Fault, Kind, Result};
use secrecy::SecretString;

use crate::connect::Aws;
use crate::fault::{Call, code};

/// The one action it takes.
const ACTION: &str = "secretsmanager:GetSecretValue";

/// The text of an entry: a name, or an ARN, which is looked up in its own region.
///
/// # Errors
/// [`Kind::Usage`] if there is no such entry in that region, it is to be deleted, or it is not text; [`Kind::Denied`] naming
/// the action and the entry; [`Kind::Failed`] if AWS is throttling or cannot be reached.
pub async fn read(aws: &Aws, id: &str) -> Result<SecretString> {
    let aws = region_of(id).map_or_else(|| aws.clone(), |region| aws.in_region(region));
    let answer = Client::new(aws.config()).get_secret_value().secret_id(id).send().await;
    let entry = answer.map_err(|error| fault(&error, id, aws.region()))?;
    match entry.secret_string {
        Some(text) => Ok(SecretString::from(text)),
        None => Err(Fault::new(Kind::Usage, format!("read secret {id}: it holds bytes, not text"))
            .hint("store it as text (`SecretString`)")),
    }
}

fn fault<R: std::fmt::Debug>(error: &SdkError<GetSecretValueError, R>, id: &str, region: &str) -> Fault {
    let doing = format!("read secret {id}");
    let usage = |why: &str| Fault::new(Kind::Usage, format!("{doing}: {why}"));
    match code(error) {
        Some("ResourceNotFoundException") => usage(&format!("there is none of that name in region {region}"))
            .hint("look at the name, and at the region: an ARN names its own"),
        // Also what a name of unusual letters is answered with.
        Some("InvalidParameterException" | "ValidationException") => {
            usage("this is not the name or ARN of a secret").hint("write its name or its full ARN")
        }
        Some("InvalidRequestException") => usage("it cannot be read now")
            .hint("see whether it is scheduled for deletion: `aws secretsmanager restore-secret`"),
        Some("DecryptionFailure") => Fault::new(Kind::Denied, format!("{doing}: its KMS key cannot be used"))
            .hint("allow the IAM action kms:Decrypt on the secret's key, also in the key's own policy"),
        _ => {
            let fault = Call { doing: &doing, action: ACTION, region }.fault(error);
            match fault.kind {
                Kind::Denied if error.as_service_error().is_some() => named(fault, id),
                _ => fault,
            }
        }
    }
}

/// What to allow, and on what.
fn named(fault: Fault, id: &str) -> Fault {
    match &fault.hint {
        Some(hint) if hint.contains(ACTION) => fault.hint(format!("allow the IAM action {ACTION} on {id}")),
        _ => fault,
    }
}

fn region_of(id: &str) -> Option<&str> {
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
