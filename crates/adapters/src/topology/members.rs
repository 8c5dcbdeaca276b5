//! A shard whose members are listed in the configuration: each is asked.

use std::io::ErrorKind;
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
/// How long a bare connection to one may take.
const KNOCK: Duration = Duration::from_secs(2);

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
    let why = match tokio::time::timeout(DEADLINE, asked(connector, endpoint)).await {
        Ok(Ok(state)) => return Ok(state),
        Ok(Err(error)) if error.is_denied() => return Err(Unusable::Denied(text(error))),
        Ok(Err(error)) if error.code().is_some() => {
            return Err(Unusable::Silent(format!("it answers, and refuses: {}", text(error))));
        }
        Ok(Err(error)) => text(error),
        Err(_) => format!("no answer within {DEADLINE:?}"),
    };
    Err(match knock(endpoint).await {
        Knock::Gone => Unusable::Unreachable(why),
        Knock::Open => Unusable::Silent(format!("it accepts connections; {why}")),
        Knock::Unknown(seen) => Unusable::Silent(format!("{why}; {seen}")),
    })
}

/// What a connection attempt alone says of a member that told nothing.
enum Knock {
    /// Every address of it refuses, or no way leads there.
    Gone,
    /// Something accepts.
    Open,
    /// Neither: a server that hangs or is cut off looks like that too.
    Unknown(String),
}

async fn knock(endpoint: &Endpoint) -> Knock {
    let host = (endpoint.host.as_str(), endpoint.port);
    let addresses: Vec<_> = match tokio::time::timeout(KNOCK, tokio::net::lookup_host(host)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Knock::Unknown(format!("its name does not resolve: {error}")),
        Err(_) => return Knock::Unknown(format!("its name was not resolved within {KNOCK:?}")),
    };
    let mut seen = Knock::Gone;
    for address in addresses {
        match tokio::time::timeout(KNOCK, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Knock::Open,
            Ok(Err(error)) if is_absence(error.kind()) => {}
            Ok(Err(error)) => seen = Knock::Unknown(error.to_string()),
            Err(_) => seen = Knock::Unknown("nothing refused the connection either".to_owned()),
        }
    }
    seen
}

fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
}

async fn asked(connector: &Connector, endpoint: &Endpoint) -> Result<InstanceState, SqlError> {
    let mut session = connector.connect(endpoint).await?;
    let state = instance_state(&mut session).await;
    session.close().await;
    state
}

fn text(error: SqlError) -> String {
    let fault = Fault::from(error);
    match fault.hint {
        Some(hint) => format!("{} ({hint})", fault.message),
        None => fault.message,
    }
}
