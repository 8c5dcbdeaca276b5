//! Whether asking again may help.

use backstop_model::fault::{Fault, Kind};

use super::api::{Failure, Node};

/// Why there is no reading.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may have passed in a moment.
    Passing(Fault),
    /// It will not.
    Lasting(Fault),
}

impl Trouble {
    /// What a node's failure to tell of a cluster means.
    pub(super) fn of(node: &Node, doing: &str, failure: &Failure) -> Self {
        let message = format!("{doing} at {}: {failure}", node.url());
        match failure {
            Failure::Silent(_) => Self::Passing(Fault::failed(message)),
            Failure::Denied(_) => Self::Lasting(Fault::new(Kind::Denied, message).hint(super::LOGIN)),
            Failure::Says(words) if words.starts_with("No cluster found") => {
                let hint = "set `topology.cluster` to the cluster's alias, exactly as orchestrator shows it";
                Self::Lasting(Fault::new(Kind::Usage, message).hint(hint))
            }
            Failure::Says(_) => Self::Passing(Fault::failed(message)),
            Failure::Strange(_) => Self::Lasting(Fault::failed(message)),
        }
    }
}
