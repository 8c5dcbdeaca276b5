//! Archiver of a shard: the things that its rounds, its monitor and its background tasks share.

use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::{AtBinlogEnd, SemiSyncMode};
use backstop_config::settings::ArchiveAck;
use backstop_policy::stream_or_fork::StreamFrom;
use backstop_repo::ArchiveWriter;
use backstop_types::error::Result;
use backstop_types::topology::Member;
use chrono::{DateTime, Utc};

use super::alerts::Alerts;
use super::binlog_source::{ChosenSource, ReplicaIdentity};
use super::config::{ArchiveUntil, ArchiverConfig};
use super::queue::Queue;
use super::semi_sync_ack::SemiSyncAck;
use super::stream_position::SharedStreamPosition;
use crate::context::RunContext;
use crate::disk::Disk;
use crate::ports::Reporter;

/// Longest wait for a change of the queue.
const QUEUE_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Archiver of a shard.
pub(super) struct Archiver<'a> {
    pub(super) config: &'a ArchiverConfig<'a>,
    pub(super) shared: Shared,
    pub(super) stream_position: SharedStreamPosition,
}

/// Things that the archiver shares with its background tasks. Clones refer to the same.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: Arc<ArchiveWriter>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) queue: Arc<Queue>,
    pub(super) semi_sync_ack: Arc<SemiSyncAck>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) ctx: RunContext,
}

impl<'a> Archiver<'a> {
    pub(super) fn new(config: &'a ArchiverConfig<'a>) -> Self {
        let ctx = config.ctx.clone();
        let alerts = Alerts::new(Arc::clone(&ctx.host.clock), Arc::clone(&ctx.reporter));
        let shared = Shared {
            store: Arc::clone(&config.store),
            disk: Arc::clone(&config.disk),
            queue: Arc::new(Queue::default()),
            semi_sync_ack: Arc::new(SemiSyncAck::default()),
            alerts: Arc::new(alerts),
            ctx,
        };
        match config.settings.semi_sync.then_some(config.settings.ack) {
            Some(ArchiveAck::Store) => shared.queue.upload_at_once(),
            Some(ArchiveAck::Spool) => shared.queue.track_unsynced(),
            None => {}
        }
        Self { config, shared, stream_position: SharedStreamPosition::default() }
    }

    pub(super) fn reporter(&self) -> &dyn Reporter {
        &*self.config.ctx.reporter
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.config.ctx.host.clock.now()
    }

    pub(super) fn monotonic(&self) -> Duration {
        self.config.ctx.host.clock.monotonic()
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.config.ctx.host.clock.sleep(duration).await;
    }

    /// Returns a chosen server as a source, for which this archiver is a replica whose server id
    /// none of the members has.
    pub(super) fn source(&self, from: StreamFrom, members: &[Member]) -> ChosenSource<'a> {
        let taken: Vec<u32> =
            members.iter().filter_map(|member| Some(member.state.as_ref().ok()?.server_id)).collect();
        let identity = ReplicaIdentity::of(self.config.name, &taken);
        ChosenSource { from, identity, access: self.config.access }
    }

    /// Condition for acknowledgements to the source; `None`: nothing is acknowledged.
    pub(super) fn ack(&self) -> Option<ArchiveAck> {
        self.config.settings.semi_sync.then_some(self.config.settings.ack)
    }

    pub(super) fn semi_sync_mode(&self) -> SemiSyncMode {
        if self.config.settings.semi_sync { SemiSyncMode::Asked } else { SemiSyncMode::Never }
    }

    pub(super) fn at_binlog_end(&self) -> AtBinlogEnd {
        match self.config.until {
            ArchiveUntil::CaughtUp => AtBinlogEnd::Stop,
            ArchiveUntil::Stopped => AtBinlogEnd::Wait,
        }
    }

    /// Waits until all streamed transactions are archived.
    ///
    /// # Errors
    /// Fails if the spooled transactions were given up.
    pub(super) async fn wait_until_drained(&self) -> Result<()> {
        while !self.shared.queue.is_drained() {
            if let Some(error) = self.shared.queue.given_up() {
                return Err(error);
            }
            self.queue_change().await;
        }
        Ok(())
    }

    /// Waits until no task works on the spool.
    pub(super) async fn wait_until_idle(&self) {
        while self.shared.queue.is_busy() {
            self.queue_change().await;
        }
    }

    /// Waits for a change of the queue, at most for [`QUEUE_POLL_INTERVAL`].
    pub(super) async fn queue_change(&self) {
        let changed = self.shared.queue.changed.notified();
        self.config.ctx.host.within(QUEUE_POLL_INTERVAL, changed).await;
    }
}
