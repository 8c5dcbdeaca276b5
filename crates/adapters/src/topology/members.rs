//! A shard whose members are listed in the configuration: each is asked.

use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::ports::{Doorbell, Topology};
use backstop_model::fault::{Fault, Result};
use backstop_model::ids::Endpoint;
use backstop_model::topology::{InstanceState, Member, Unusable, Verdict};
use futures::future::join_all;

use crate::mysql::connect::Connector;
use crate::mysql::error::SqlError;
use crate::mysql::state::instance_state;

/// How long one member may take to answer everything.
const DEADLINE: Duration = Duration::from_secs(5);

/// The listed members of one shard.
#[derive(Debug, Clone)]
pub struct Members {
    connector: Connector,
    members: Vec<Endpoint>,
    candidate: Option<Endpoint>,
}

impl Members {
    /// Asks these members with this connector.
    pub fn new(connector: Connector, members: Vec<Endpoint>, candidate: Option<Endpoint>) -> Self {
        Self { connector, members, candidate }
    }

    async fn ask(&self, endpoint: &Endpoint) -> Member {
        Member {
            endpoint: endpoint.clone(),
            candidate: self.candidate.as_ref() == Some(endpoint),
            state: state_of(&self.connector, endpoint).await,
            verdict: Verdict::default(),
        }
    }
}

#[async_trait]
impl Topology for Members {
    async fn look(&self) -> Result<Vec<Member>> {
        Ok(join_all(self.members.iter().map(|endpoint| self.ask(endpoint))).await)
    }
}

#[async_trait]
impl Doorbell for Members {
    async fn ask(&self, server: &Endpoint) -> Member {
        Self::ask(self, server).await
    }
}

/// What the server at this endpoint says of itself, within a deadline.
pub(super) async fn state_of(connector: &Connector, endpoint: &Endpoint) -> Result<InstanceState, Unusable> {
    match tokio::time::timeout(DEADLINE, asked(connector, endpoint)).await {
        Ok(answer) => answer.map_err(unusable),
        Err(_) => Err(Unusable::Unreachable(format!("no answer within {DEADLINE:?}"))),
    }
}

async fn asked(connector: &Connector, endpoint: &Endpoint) -> Result<InstanceState, SqlError> {
    let mut session = connector.connect(endpoint).await?;
    let state = instance_state(&mut session).await;
    session.close().await;
    state
}

fn unusable(error: SqlError) -> Unusable {
    let denied = error.is_denied();
    let fault = Fault::from(error);
    let text = match fault.hint {
        Some(hint) => format!("{} ({hint})", fault.message),
        None => fault.message,
    };
    if denied { Unusable::Denied(text) } else { Unusable::Unreachable(text) }
}
