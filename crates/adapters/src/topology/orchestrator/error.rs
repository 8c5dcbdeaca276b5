//! Errors of a reading: passing ones, which a retry may cure, and lasting ones.

use backstop_types::error::{Error, ErrorKind};

use super::client::{ApiError, OrchestratorNode};

/// Cause of a failed reading.
#[derive(Debug)]
pub(super) enum ReadError {
    /// A retry may succeed.
    Passing(Error),
    /// A retry will not succeed.
    Lasting(Error),
}

impl ReadError {
    /// Returns the message.
    pub(super) fn message(self) -> String {
        match self {
            Self::Passing(error) | Self::Lasting(error) => error.message,
        }
    }

    /// Classifies a node's failure to read a cluster.
    pub(super) fn of(node: &OrchestratorNode, doing: &str, failure: &ApiError) -> Self {
        let message = format!("{doing} at {}: {failure}", node.url());
        match failure {
            ApiError::Silent(_) => Self::Passing(Error::failed(message)),
            ApiError::Denied(_) => {
                Self::Lasting(Error::new(ErrorKind::Denied, message).hint(super::LOGIN_HINT))
            }
            ApiError::Says(words) if words.starts_with("No cluster found") => {
                let hint = "set `topology.cluster` to the exact alias of the cluster in orchestrator";
                Self::Lasting(Error::new(ErrorKind::Usage, message).hint(hint))
            }
            ApiError::Says(_) => Self::Passing(Error::failed(message)),
            ApiError::Strange(_) => Self::Lasting(Error::failed(message)),
        }
    }
}
