//! Source of a binlog stream: login, checks, identity of the replica.

use std::time::Duration;

use backstop_binlog::{
    AtBinlogEnd, ConnectOptions, DumpRequest, EventStream, SemiSyncAcknowledger, SemiSyncMode, Session,
};
use backstop_config::credentials::Credentials;
use backstop_policy::stream_or_fork::{SourceHistory, StreamFrom, parse_gtid_owned};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::login::ReplicationAccount;

use super::config::{Encryption, ServerAccess};

/// Timeout for connecting and for each answer of the source.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Period of the source's heartbeat; a stream without a byte for twice that and a second is dead.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(1);

/// The server to stream from, and this archiver as its replica.
pub(super) struct ChosenSource<'a> {
    pub(super) from: StreamFrom,
    pub(super) identity: ReplicaIdentity,
    pub(super) access: ServerAccess<'a>,
}

impl ChosenSource<'_> {
    /// Logs in and reads the server's state.
    pub(super) async fn open(&self) -> Result<BinlogSource> {
        self.access.open(&self.from).await
    }

    /// Opens a session of the account that every command uses: the replication account may not read
    /// a server's binlog position.
    pub(super) async fn session(&self) -> Result<Session> {
        self.access.connect_as(&self.from.endpoint, Credentials::account).await
    }
}

/// State of a server before its binlog is streamed.
pub(super) struct BinlogSource {
    session: Session,
    pub(super) history: SourceHistory,
    encrypted: bool,
}

/// Identity of this archiver as a replica of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaIdentity {
    /// Server id that no member has.
    pub server_id: u32,
    /// UUID: the same for every archiver of this shard into this repository.
    pub uuid: ServerUuid,
}

impl ReplicaIdentity {
    /// Derives the identity of a shard's archiver from the name of shard and repository. The server
    /// id is none of `taken`.
    pub fn of(name: &str, taken: &[u32]) -> Self {
        let hash = *blake3::hash(name.as_bytes()).as_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        let mut id = u32::from_le_bytes([hash[16], hash[17], hash[18], hash[19]]).max(1);
        while taken.contains(&id) {
            id = id.wrapping_add(1).max(1);
        }
        Self { server_id: id, uuid: ServerUuid(uuid) }
    }
}

impl BinlogSource {
    /// Refuses to archive in plain text what the source encrypts.
    pub(super) fn refuse_plain_text(&self, encryption: Encryption, from: &StreamFrom) -> Result<()> {
        if !self.encrypted || encryption == Encryption::On {
            return Ok(());
        }
        Err(Error::refused(format!(
            "cannot archive from {}: it encrypts its binlog, and the repository is not encrypted: the archive would be plain text",
            from.endpoint
        ))
        .hint("use a new repository with encryption_key"))
    }

    /// Begins a stream of the transactions that are not in `executed`.
    pub(super) async fn stream(
        self,
        identity: ReplicaIdentity,
        executed: GtidSet,
        acknowledge: SemiSyncMode,
        at_end: AtBinlogEnd,
    ) -> Result<(EventStream, SemiSyncAcknowledger)> {
        let ReplicaIdentity { server_id, uuid: replica_uuid } = identity;
        let dump = DumpRequest {
            server_id,
            replica_uuid,
            executed,
            heartbeat: HEARTBEAT_PERIOD,
            acknowledge,
            at_end,
        };
        self.session.dump(&dump).await.map_err(replication_grants_hint)
    }

    /// Begins a stream of what is in the binlog now and not in `executed`.
    pub(super) async fn resend(self, identity: ReplicaIdentity, executed: GtidSet) -> Result<EventStream> {
        let asked = self.stream(identity, executed, SemiSyncMode::Never, AtBinlogEnd::Stop).await;
        asked.map(|(stream, _)| stream)
    }
}

/// Adds the grants that may be missing to an access-denied error.
fn replication_grants_hint(error: Error) -> Error {
    if error.kind != ErrorKind::Denied {
        return error;
    }
    error.hint("grant REPLICATION SLAVE to the replication account and check its password in the credentials (docs/grants.md)")
}

/// Returns all transactions that are or were in a server's binlog.
pub(super) async fn binlog_gtids(session: &mut Session) -> Result<GtidSet> {
    // Owned GTIDs become executed: they are read first, so that no transaction is missed in
    // between.
    let owner = select_text(session, "@@GLOBAL.gtid_owned").await?;
    let executed = select_gtid_set(session, "@@GLOBAL.gtid_executed").await?;
    let owned = parse_gtid_owned(&owner).failed_reading("gtid_owned", &owner)?;
    Ok(executed.union(&owned))
}

async fn ask(session: &mut Session, from: &StreamFrom) -> Result<(SourceHistory, bool)> {
    let reached = binlog_gtids(session).await?;
    let purged = select_gtid_set(session, "@@GLOBAL.gtid_purged").await?;
    let uuid = select_text(session, "@@GLOBAL.server_uuid").await?;
    if uuid.parse::<ServerUuid>().ok() != Some(from.server_uuid) {
        let message = format!("another server answers there: {uuid} instead of {}", from.server_uuid);
        return Err(Error::failed(message).hint("check host and port; the archiver retries"));
    }
    if select_text(session, "@@GLOBAL.log_bin").await? != "1" {
        return Err(Error::new(ErrorKind::Refused, "it has no binlog").hint("start it with log_bin"));
    }
    if select_text(session, "@@GLOBAL.gtid_mode").await? != "ON" {
        return Err(Error::new(ErrorKind::Refused, "its gtid_mode is not ON")
            .hint("set gtid_mode=ON on every member"));
    }
    let encrypted = select_text(session, "@@GLOBAL.binlog_encryption").await? == "1";
    Ok((SourceHistory { reached, purged }, encrypted))
}

async fn select_text(session: &mut Session, what: &str) -> Result<String> {
    Ok(session.value(&format!("SELECT {what}")).await?.unwrap_or_default())
}

async fn select_gtid_set(session: &mut Session, what: &str) -> Result<GtidSet> {
    select_text(session, what).await?.parse().failed(format!("cannot read {what}"))
}

trait Readable<T> {
    fn failed_reading(self, what: &str, text: &str) -> Result<T>;
}

impl<T> Readable<T> for Option<T> {
    fn failed_reading(self, what: &str, text: &str) -> Result<T> {
        self.ok_or_else(|| Error::failed(format!("cannot read {what}: `{text}` has an unknown format")))
    }
}

impl ServerAccess<'_> {
    /// Logs in with the replication account and reads the server's state.
    pub(super) async fn open(&self, from: &StreamFrom) -> Result<BinlogSource> {
        let mut session = self.connect_as(&from.endpoint, Credentials::replication_account).await?;
        let told = ask(&mut session, from).await;
        let (history, encrypted) =
            told.map_err(|error| error.during(format!("cannot ask {} for its binlog", from.endpoint)))?;
        Ok(BinlogSource { session, history, encrypted })
    }

    /// Opens a session of an account.
    async fn connect_as(
        &self,
        endpoint: &Endpoint,
        account: fn(&Credentials) -> ReplicationAccount,
    ) -> Result<Session> {
        let current = self.credentials.current();
        let there = match account(&current).user == current.user {
            true => endpoint.to_string(),
            false => format!("{endpoint} for replication"),
        };
        let open = |credentials: Credentials| async move {
            let (account, tls) = (account(&credentials), credentials.tls_for(endpoint));
            let connect =
                ConnectOptions { endpoint: endpoint.clone(), account, tls, deadline: SOURCE_TIMEOUT };
            Session::open_through(self.dial, &connect).await
        };
        self.credentials.log_in(&there, open).await
    }
}
