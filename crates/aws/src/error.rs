//! Translates AWS errors for the operator.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use backstop_types::error::{Error, ErrorKind};

/// AWS's error codes for throttling. Nothing was done then.
pub(crate) const THROTTLING_CODES: [&str; 7] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "RequestThrottledException",
    "EC2ThrottledException",
    "SnapshotCreationPerVolumeRateExceeded",
];

/// Description of a call to AWS, for its errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwsCall<'a> {
    /// Verb and object of the call.
    pub(crate) doing: &'a str,
    /// IAM action that it requires.
    pub(crate) action: &'static str,
    /// Region of the call.
    pub(crate) region: &'a str,
}

impl AwsCall<'_> {
    /// Returns the error for the operator.
    pub(crate) fn error<E, R>(&self, error: &SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        match error {
            SdkError::ServiceError(context) => {
                let code = context.err().code().unwrap_or_default();
                self.service_error(code, context.err().message().unwrap_or("no reason was given"))
            }
            SdkError::TimeoutError(_) => self.unreachable("no answer in time"),
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) => {
                let why = innermost(error);
                if why.contains("credential") {
                    self.without_credentials(&why)
                } else {
                    self.unreachable(&why)
                }
            }
            other => Error::failed(format!("cannot {}: {}", self.doing, innermost(other))),
        }
    }

    /// Returns the error for an answer of AWS with one of its codes.
    fn service_error(&self, code: &str, message: &str) -> Error {
        // AWS appends kilobytes that only AWS can decode.
        let message = message.split("Encoded authorization failure message").next().unwrap_or(message).trim();
        let told = |kind| Error::new(kind, format!("cannot {}: {message} ({code})", self.doing));
        match code {
            "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
                let action = denied_action(message).unwrap_or(self.action);
                told(ErrorKind::Denied).hint(format!("allow the IAM action {action} (docs/aws.md lists all that are needed)"))
            }
            "AuthFailure" | "InvalidClientTokenId" | "UnrecognizedClientException" | "SignatureDoesNotMatch"
            | "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "MissingAuthenticationToken"
            | "OptInRequired" => {
                told(ErrorKind::Denied).hint(format!(
                    "check the AWS credentials (`aws sts get-caller-identity`), the clock of this host, and whether \
                     region {} is enabled for the account",
                    self.region
                ))
            }
            "SnapshotLimitExceeded" | "ConcurrentSnapshotLimitExceeded" | "PendingSnapshotLimitExceeded"
            | "ResourceLimitExceeded" => told(ErrorKind::Refused).hint(format!(
                "wait for pending snapshots, run `backstop prune`, or ask AWS for a higher snapshot quota in {} \
                 (Service Quotas, EBS)",
                self.region
            )),
            code if THROTTLING_CODES.contains(&code) => {
                told(ErrorKind::Failed).hint("retry in a minute, and spread schedules: AWS throttles calls")
            }
            "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed" | "InvalidVolume.NotFound"
            | "InvalidVolumeID.Malformed" | "InvalidSnapshot.NotFound" => {
                told(ErrorKind::Failed).hint(format!("check that it is in region {}", self.region))
            }
            "TagLimitExceeded" | "InvalidParameterValue" | "InvalidTagKey.Malformed" => {
                told(ErrorKind::Failed).hint("report this defect of Backstop with this message")
            }
            _ => told(ErrorKind::Failed),
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        let (doing, region) = (self.doing, self.region);
        let message = format!("cannot {doing}: AWS in region {region} cannot be reached: {why}");
        Error::failed(message).hint(format!(
            "check that `{region}` is the right region, and that this host reaches its endpoints (a VPC needs an \
             endpoint or NAT; AWS_ENDPOINT_URL is honoured)"
        ))
    }

    fn without_credentials(&self, why: &str) -> Error {
        Error::new(ErrorKind::Denied, format!("cannot {}: no AWS credentials: {why}", self.doing))
            .hint("give this host or function a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID")
    }
}

/// Returns the action that AWS reports as denied: tagging at creation is authorized with the call
/// that creates.
fn denied_action(message: &str) -> Option<&str> {
    let rest = message.split("not authorized to perform: ").nth(1)?;
    rest.split(|c: char| c.is_whitespace() || c == ',').next().filter(|action| action.contains(':'))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// Returns the error code of AWS's answer, if it answered.
pub(crate) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> AwsCall<'static> {
        AwsCall { doing: "snapshot i-1", action: "ec2:CreateSnapshots", region: "eu-west-1" }
    }

    #[test]
    fn a_denied_action_is_named() {
        let message = "You are not authorized to perform this operation. User: arn:x is not authorized to perform: \
                       ec2:CreateTags on resource: y because no identity-based policy allows it. Encoded \
                       authorization failure message: AAAA";
        let error = call().service_error("UnauthorizedOperation", message);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.hint.is_some_and(|hint| hint.contains("ec2:CreateTags")));
        assert!(!error.message.contains("AAAA"));
        let error = call()
            .service_error("UnauthorizedOperation", "You are not authorized to perform this operation.");
        assert!(error.hint.is_some_and(|hint| hint.contains("ec2:CreateSnapshots")));
    }

    #[test]
    fn error_kinds_follow_the_codes_of_aws() {
        for (code, kind) in [
            ("AuthFailure", ErrorKind::Denied),
            ("SnapshotLimitExceeded", ErrorKind::Refused),
            ("RequestLimitExceeded", ErrorKind::Failed),
            ("InvalidVolume.NotFound", ErrorKind::Failed),
            ("SomethingNew", ErrorKind::Failed),
        ] {
            let error = call().service_error(code, "why");
            assert_eq!(error.kind, kind, "{code}");
            assert!(error.message.contains("snapshot i-1: why") && error.message.contains(code));
        }
    }
}
