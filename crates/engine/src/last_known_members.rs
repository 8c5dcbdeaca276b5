//! Members of a shard for a backup while orchestrator does not answer with a quorum: those that the
//! newest backup recorded, each checked by SQL.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_policy::topology::last_known;
use backstop_repo::ShardReader;
use backstop_types::backup::BackupFacts;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::Endpoint;
use backstop_types::topology::{Member, NoAnswer};
use futures::future::join_all;

use crate::context::RunContext;
use crate::ports::Topology;

/// Code of the finding that a backup was chosen from the last known members.
pub const MEMBERS_LAST_KNOWN: &str = "members-last-known";

/// Asks orchestrator, and uses the last known members where it cannot answer.
pub struct LastKnownMembers<'a> {
    topology: &'a dyn Topology,
    reader: &'a ShardReader,
    ctx: &'a RunContext,
    /// The error of orchestrator and the finding about it, once the last known members are used.
    used: Mutex<Option<(Error, Finding)>>,
}

impl<'a> LastKnownMembers<'a> {
    /// Creates it over the shard's topology and the backups that recorded its members.
    pub fn new(topology: &'a dyn Topology, reader: &'a ShardReader, ctx: &'a RunContext) -> Self {
        Self { topology, reader, ctx, used: Mutex::default() }
    }

    async fn last_known(&self, error: Error) -> Result<Vec<Member>> {
        let catalog = self.reader.catalog().await?;
        let newest = catalog.last().map(|entry| &entry.facts).filter(|facts| !facts.members.is_empty());
        let Some(newest) = newest else {
            let why = "no backup has recorded the shard's members";
            return Err(Error { message: format!("{}; {why}", error.message), ..error });
        };
        let asked = join_all(newest.members.iter().map(|endpoint| self.member(endpoint, newest))).await;
        let members = last_known(asked, newest.primary.as_ref(), &newest.source.endpoint)
            .map_err(|refused| refused.during(&error.message))?;
        self.note(newest, &error);
        Ok(members)
    }

    /// Asks a recorded member. A server that was not among those of the newest backup may belong to
    /// another shard now.
    async fn member(&self, endpoint: &Endpoint, newest: &BackupFacts) -> Member {
        let mut member = self.topology.probe(endpoint).await;
        let stranger =
            member.state.as_ref().ok().filter(|state| !newest.servers.contains(&state.server_uuid));
        if let Some(state) = stranger {
            let why = format!(
                "its server UUID {} is not one that backup {} saw",
                state.server_uuid, newest.backup_id
            );
            member.state = Err(NoAnswer::Mistaken(why));
        }
        member
    }

    fn note(&self, newest: &BackupFacts, error: &Error) {
        let finding = Finding::warning(
            MEMBERS_LAST_KNOWN,
            format!(
                "orchestrator does not answer with a quorum: the members are those of backup {}, checked by SQL, \
                 and only a replica is backed up ({})",
                newest.backup_id, error.message
            ),
            "restore orchestrator's quorum",
        );
        let mut used = self.used();
        if used.is_none() {
            self.ctx.reporter.notice(&finding.notice());
        }
        *used = Some((error.clone(), finding));
    }

    fn used(&self) -> MutexGuard<'_, Option<(Error, Finding)>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Topology for LastKnownMembers<'_> {
    async fn members(&self) -> Result<Vec<Member>> {
        // One backup looks several times, and waits for orchestrator once.
        let earlier = self.used().as_ref().map(|(error, _)| error.clone());
        if let Some(error) = earlier {
            return self.last_known(error).await;
        }
        match self.topology.members().await {
            // Other kinds are certain: a refused login, an unknown cluster, leaders that disagree.
            Err(error) if error.kind == ErrorKind::Failed => self.last_known(error).await,
            answer => answer,
        }
    }

    async fn probe(&self, server: &Endpoint) -> Member {
        self.topology.probe(server).await
    }

    async fn source_settings(&self, primary: &Endpoint) -> Result<SourceSettings> {
        self.topology.source_settings(primary).await
    }

    fn findings(&self) -> Vec<Finding> {
        let used = self.used().as_ref().map(|(_, finding)| finding.clone());
        self.topology.findings().into_iter().chain(used).collect()
    }
}
