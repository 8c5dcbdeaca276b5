//! A shard whose members are listed in the configuration; each one is queried.

use std::io::ErrorKind;
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::ports::Topology;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_types::error::{Error, Result};
use backstop_types::ids::Endpoint;
use backstop_types::topology::{ExternalVerdict, InstanceState, Member, NoAnswer};
use futures::future::join_all;

use crate::mysql::connection::Connector;
use crate::mysql::error::SqlError;
use crate::mysql::instance_state::instance_state;
use crate::mysql::source_settings::source_settings;

/// Limit for one member to answer all queries, once it is connected.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a bare TCP connection to a member.
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The listed members of one shard.
#[derive(Debug, Clone)]
pub struct StaticMembers {
    connector: Connector,
    members: Vec<Endpoint>,
    candidate: Option<Endpoint>,
}

impl StaticMembers {
    /// Creates an adapter that queries these members with this connector.
    pub fn new(connector: Connector, members: Vec<Endpoint>, candidate: Option<Endpoint>) -> Self {
        Self { connector, members, candidate }
    }

    async fn ask(&self, endpoint: &Endpoint) -> Member {
        Member {
            endpoint: endpoint.clone(),
            candidate: self.candidate.as_ref() == Some(endpoint),
            state: state_of(&self.connector, endpoint).await,
            verdict: ExternalVerdict::default(),
        }
    }
}

#[async_trait]
impl Topology for StaticMembers {
    async fn members(&self) -> Result<Vec<Member>> {
        Ok(join_all(self.members.iter().map(|endpoint| self.ask(endpoint))).await)
    }

    async fn probe(&self, server: &Endpoint) -> Member {
        self.ask(server).await
    }

    async fn source_settings(&self, primary: &Endpoint) -> Result<SourceSettings> {
        source_settings(&self.connector, primary).await
    }
}

/// Returns the state that the server at this endpoint reports. The connection and the queries each
/// have a deadline.
pub(super) async fn state_of(connector: &Connector, endpoint: &Endpoint) -> Result<InstanceState, NoAnswer> {
    let why = match ask_state(connector, endpoint).await {
        Ok(Some(state)) => return Ok(state),
        Err(error) if error.is_denied() => return Err(NoAnswer::Denied(text(error))),
        Err(error) if error.code().is_some() => {
            return Err(NoAnswer::Silent(format!("it answers with an error: {}", text(error))));
        }
        Err(error) => text(error),
        Ok(None) => format!("no answer within {MEMBER_TIMEOUT:?}"),
    };
    Err(match tcp_probe(endpoint).await {
        TcpProbe::Gone => NoAnswer::Unreachable(why),
        TcpProbe::Open => NoAnswer::Silent(format!("it accepts connections; {why}")),
        TcpProbe::Unknown(seen) => NoAnswer::Silent(format!("{why}; {seen}")),
    })
}

/// Result of a bare connection attempt to a member that did not report its state.
enum TcpProbe {
    /// Every address of the member refuses the connection, or no route leads there.
    Gone,
    /// Something accepts the connection.
    Open,
    /// Neither: a server that hangs or is cut off cannot be distinguished from that.
    Unknown(String),
}

async fn tcp_probe(endpoint: &Endpoint) -> TcpProbe {
    let host = (endpoint.host.as_str(), endpoint.port);
    let addresses: Vec<_> = match tokio::time::timeout(TCP_CONNECT_TIMEOUT, tokio::net::lookup_host(host))
        .await
    {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return TcpProbe::Unknown(format!("its name does not resolve: {error}")),
        Err(_) => {
            return TcpProbe::Unknown(format!("its name was not resolved within {TCP_CONNECT_TIMEOUT:?}"));
        }
    };
    let mut seen = TcpProbe::Gone;
    for address in addresses {
        match tokio::time::timeout(TCP_CONNECT_TIMEOUT, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => return TcpProbe::Open,
            Ok(Err(error)) if is_absence(error.kind()) => {}
            Ok(Err(error)) => seen = TcpProbe::Unknown(error.to_string()),
            Err(_) => seen = TcpProbe::Unknown("no connection was refused either".to_owned()),
        }
    }
    seen
}

fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
}

/// Returns the member's state; `None` if it connects and does not answer in time.
async fn ask_state(connector: &Connector, endpoint: &Endpoint) -> Result<Option<InstanceState>, SqlError> {
    let mut session = connector.connect(endpoint).await?;
    let state = tokio::time::timeout(MEMBER_TIMEOUT, instance_state(&mut session)).await;
    if state.is_ok() {
        session.close().await;
    }
    state.ok().transpose()
}

fn text(error: SqlError) -> String {
    let failure = Error::from(error);
    match failure.hint {
        Some(hint) => format!("{} ({hint})", failure.message),
        None => failure.message,
    }
}
