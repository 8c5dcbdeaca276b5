//! Finds the members of a shard from one of them: its source, the source's replicas, and so on.

use std::collections::{BTreeSet, VecDeque};

use backstop_config::credentials::Credentials;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::Endpoint;
use backstop_types::topology::{ExternalVerdict, Member, NoAnswer};

use super::static_members::state_of;
use crate::mysql::connection::{Connector, Login};
use crate::mysql::dialect::Dialect;
use crate::mysql::error::SqlError;

/// Limit for the number of servers that are queried.
const MAX_SERVERS: usize = 64;

/// Servers that replicate with one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    /// Servers that answered, in the order in which they were found.
    pub members: Vec<Member>,
    /// Unknown facts, each in one sentence: a server that is named and does not answer, a query
    /// that the account may not run.
    pub unknown: Vec<String>,
}

/// Finds the servers that replicate with this one. Two names of one server count once. Only the
/// replication account may query a server for its replicas.
///
/// # Errors
/// Returns an error if the first server cannot be queried: [`ErrorKind::Denied`] if it refuses the
/// account.
pub async fn discover(credentials: &Credentials, from: &Endpoint) -> Result<Discovered> {
    let connector = &Connector::new(credentials);
    let replication = &match &credentials.replication {
        Some(account) => {
            let login = Login { user: account.user.clone(), password: account.password.clone() };
            Connector::with_login(login, credentials.tls.clone())
        }
        None => connector.clone(),
    };
    let mut found = Discovered { members: Vec::new(), unknown: Vec::new() };
    let mut known: BTreeSet<Endpoint> = BTreeSet::from([from.clone()]);
    let mut waiting = VecDeque::from([(from.clone(), None::<String>)]);
    while let Some((endpoint, named_by)) = waiting.pop_front() {
        let state = match (state_of(connector, &endpoint).await, named_by) {
            (Ok(state), _) => state,
            (Err(why), None) => return Err(first_fails(&endpoint, &why)),
            (Err(why), Some(named_by)) => {
                found.unknown.push(format!("{named_by} names {endpoint}, which {why}"));
                continue;
            }
        };
        let is_known =
            |member: &Member| member.state.as_ref().is_ok_and(|known| known.server_uuid == state.server_uuid);
        if found.members.iter().any(is_known) {
            continue;
        }
        let replicas = match replicas(replication, &endpoint, Dialect::of(&state.version)).await {
            Ok(replicas) => replicas,
            Err(error) => {
                found.unknown.push(format!("the replicas of {endpoint} are unknown: {}", Error::from(error)));
                Vec::new()
            }
        };
        let source = state.replication.as_ref().map(|channel| channel.source.clone());
        for next in source.into_iter().chain(replicas) {
            if next.host.is_empty() {
                found
                    .unknown
                    .push(format!("{endpoint} has a replica that reports no name (report_host is not set)"));
            } else if known.len() < MAX_SERVERS && known.insert(next.clone()) {
                waiting.push_back((next, Some(endpoint.to_string())));
            }
        }
        let verdict = ExternalVerdict::default();
        found.members.push(Member { endpoint, candidate: false, state: Ok(state), verdict });
    }
    found.unknown.sort();
    found.unknown.dedup();
    Ok(found)
}

/// Server id, host, port, the source's id, UUID.
type ReplicaRow = (u32, String, u16, u32, String);

/// Returns the replicas that are connected to a server, by the names that they report
/// (`report_host`).
async fn replicas(
    connector: &Connector,
    endpoint: &Endpoint,
    dialect: Dialect,
) -> Result<Vec<Endpoint>, SqlError> {
    let mut session = connector.connect(endpoint).await?;
    let rows = session.query::<ReplicaRow>(dialect.show_replicas()).await;
    session.close().await;
    Ok(rows?.into_iter().map(|(_, host, port, ..)| Endpoint::new(host, port)).collect())
}

fn first_fails(endpoint: &Endpoint, why: &NoAnswer) -> Error {
    let kind = match why {
        NoAnswer::Denied(_) => ErrorKind::Denied,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, format!("cannot discover the shard of {endpoint}: it {why}"))
}
