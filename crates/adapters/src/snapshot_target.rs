//! The instance that a snapshot is taken of, as every provider needs it.

use backstop_engine::context::RunContext;
use backstop_types::error::{Error, Result};
use backstop_types::finding::Finding;
use backstop_types::freeze::FreezeRules;
use backstop_types::ids::Endpoint;
use backstop_types::server::RecordedSettings;
use backstop_types::topology::{Role, SourceChoice};

use crate::mysql::connection::{Connection, Connector};
use crate::mysql::recorded_settings::recorded_settings;
use crate::mysql::recovery_findings::recovery_findings;

/// The instance to be copied, with everything the copy needs.
#[derive(Clone)]
pub struct SnapshotTarget<P> {
    /// Opens sessions on the instance.
    pub connector: Connector,
    /// Address on which the instance listens.
    pub endpoint: Endpoint,
    /// Role in the shard: a primary is only locked if the rules allow it.
    pub role: Role,
    /// Rules for holding writes.
    pub freeze: FreezeRules,
    /// Clock, reporter, failpoints.
    pub ctx: RunContext,
    /// Place of the snapshot, and what the provider needs there.
    pub place: P,
}

impl<P> SnapshotTarget<P> {
    /// Opens a session on the instance.
    ///
    /// # Errors
    /// Fails if the instance cannot be reached or refuses the login.
    pub async fn connect(&self) -> Result<Connection> {
        Ok(self.connector.connect(&self.endpoint).await?)
    }
}

/// Access to the members of a shard, one of which is backed up.
#[derive(Clone)]
pub struct InstanceAccess {
    /// Opens sessions on the members.
    pub connector: Connector,
    /// Rules for holding writes.
    pub freeze: FreezeRules,
    /// Clock, reporter and request to stop.
    pub ctx: RunContext,
}

impl InstanceAccess {
    /// Returns the chosen member as the target of a snapshot.
    pub fn target<P>(&self, choice: &SourceChoice, place: P) -> SnapshotTarget<P> {
        SnapshotTarget {
            connector: self.connector.clone(),
            endpoint: choice.endpoint.clone(),
            role: choice.role,
            freeze: self.freeze.clone(),
            ctx: self.ctx.clone(),
            place,
        }
    }

    /// Proves that the chosen server answers at its address, and returns its settings and what an
    /// operator should know before its backup is recovered.
    ///
    /// # Errors
    /// Fails if another server answers there, or if a query fails.
    pub async fn open(&self, choice: &SourceChoice) -> Result<(RecordedSettings, Vec<Finding>)> {
        let mut session = self.connector.connect(&choice.endpoint).await?;
        let uuid: String = session.one("SELECT @@server_uuid").await?;
        if uuid != choice.state.server_uuid.to_string() {
            let message = format!("cannot open {}: another server answers there now", choice.endpoint);
            return Err(Error::failed(message).hint("try again: a failover may be in progress"));
        }
        let settings = recorded_settings(&mut session).await?;
        let findings = recovery_findings(&mut session).await?;
        session.close().await;
        Ok((settings, findings))
    }
}
