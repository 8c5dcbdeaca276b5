//! Error answers of EC2.

use super::xml::Element;

/// Error code, message, and HTTP status.
#[derive(Debug, Clone)]
pub(super) struct Ec2Error {
    pub(super) status: u16,
    code: String,
    message: String,
}

impl Ec2Error {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    pub(super) fn denied(action: &str) -> Self {
        let message = format!(
            "You are not authorized to perform this operation. User: arn:aws:iam::1:user/test is not authorized to \
             perform: ec2:{action} on resource: arn:aws:ec2:eu-test-1::snapshot/* because no identity-based policy allows \
             the ec2:{action} action. Encoded authorization failure message: c2VjcmV0"
        );
        Self::new(403, "UnauthorizedOperation", message)
    }

    pub(super) fn missing(what: &str, kind: &str) -> Self {
        Self::new(400, &format!("Invalid{kind}.NotFound"), format!("The {kind} '{what}' does not exist."))
    }

    pub(super) fn dry_run() -> Self {
        let message = "Request would have succeeded, but DryRun flag is set.";
        Self::new(412, "DryRunOperation", message)
    }

    pub(super) fn body(&self) -> String {
        let error = Element::new("Error").text("Code", &self.code).text("Message", &self.message);
        let errors = Element::new("Errors").with(error);
        Element::new("Response").with(errors).text("RequestID", "test").document()
    }
}
