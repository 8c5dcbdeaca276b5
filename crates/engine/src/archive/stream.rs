//! Reading a source's stream into the spool.

use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::{Cutter, EventStream, Step};
use backstop_model::archiving::Place;
use backstop_model::fault::{Fault, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use backstop_model::progress::{Progress, Unit};

use super::queue::Queue;
use super::spool::Spool;
use super::standing::Standing;
use crate::world::World;

/// A segment is sealed at this size, in bytes.
const SEGMENT: u64 = 64 << 20;
/// A segment of so many pieces in the tail is sealed: lists stay short.
const TAILS: u64 = 2048;
/// More than this does not wait in the spool, in bytes: then the source waits.
const SPOOLED: u64 = 4 << 30;
/// How long the stream may be quiet before this looks around.
const QUIET: Duration = Duration::from_millis(200);

/// Reads one stream.
pub(super) struct Reader<'a> {
    pub(super) source: ServerUuid,
    pub(super) queue: &'a Arc<Queue>,
    pub(super) standing: &'a Standing,
    pub(super) world: &'a World,
}

/// Why reading ended, other than by a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The source has no more.
    AtEnd,
    /// The source cannot send what was asked for.
    Refused(Fault),
    /// The source's file would have a hole: begin it with exactly this.
    Hole(GtidSet),
}

impl Reader<'_> {
    /// Reads until the stream ends or breaks. Can be dropped at any time: what is torn is cut back.
    pub(super) async fn read(
        &self,
        stream: &mut EventStream,
        cutter: &mut Cutter,
        spool: &mut Spool,
    ) -> Result<Ended> {
        self.publish(cutter, spool)?;
        let outcome = self.steps(stream, cutter, spool).await;
        publish(cutter, spool)?;
        outcome
    }

    async fn steps(&self, stream: &mut EventStream, cutter: &mut Cutter, spool: &mut Spool) -> Result<Ended> {
        loop {
            if let Some(fault) = self.queue.given_up() {
                return Err(fault);
            }
            if cutter.unsealed() == 0 {
                spool.expect(cutter.held());
            }
            let quiet = if spool.has_unpublished() && cutter.is_described() { Duration::ZERO } else { QUIET };
            match cutter.step(stream, spool, quiet).await? {
                Step::Quiet => {
                    self.queue.flows(false);
                    self.publish(cutter, spool)?;
                }
                Step::End => return Ok(Ended::AtEnd),
                Step::Refused(fault) => return Ok(Ended::Refused(fault)),
                Step::Hole { previous } => return Ok(Ended::Hole(previous)),
                Step::Heartbeat { file, offset } => {
                    self.queue.flows(false);
                    self.publish(cutter, spool)?;
                    self.alive(cutter, &Place { file, offset });
                }
                Step::File(_) => {}
                Step::Transaction { gtid, end, committed, .. } => {
                    spool.transaction(end, &gtid, committed, self.world.clock.monotonic());
                }
                Step::Other => {
                    spool.event(cutter.position().map_or(0, |(_, end)| end));
                    spool.expect(cutter.held());
                }
            }
            let large = spool.should_seal();
            if !large && spool.should_publish() {
                self.queue.flows(true);
                self.publish(cutter, spool)?;
            }
            if large || cutter.unsealed() >= SEGMENT || self.queue.tails() >= TAILS {
                cutter.cut(spool).await?;
            }
            self.room().await;
        }
    }

    /// The source has sent all up to here. Whether that is still where it writes is asked of itself: the watch does.
    fn alive(&self, cutter: &Cutter, at: &Place) {
        if self.queue.given_up().is_some() {
            return;
        }
        let here = cutter.position().is_some_and(|(file, offset)| file == at.file && offset == at.offset);
        let passed = self.queue.passed();
        if here && passed.archived >= passed.published {
            self.queue.complete(self.source, cutter.held());
        }
        let done = passed.archived;
        self.world.reporter.progress(Progress { done, total: None, unit: Unit::Transactions });
    }

    /// Hands on what is whole, and tells how far that is.
    fn publish(&self, cutter: &Cutter, spool: &mut Spool) -> Result<()> {
        publish(cutter, spool)?;
        self.standing.at(cutter, self.queue.passed().published);
        Ok(())
    }

    async fn room(&self) {
        while self.queue.bytes() > SPOOLED {
            let changed = self.queue.changed.notified();
            tokio::select! {
                () = changed => {}
                () = self.world.clock.sleep(QUIET) => {}
            }
        }
    }
}

/// Hands on what is whole, if it is known what came before it.
fn publish(cutter: &Cutter, spool: &mut Spool) -> Result<()> {
    if cutter.is_described() { spool.publish() } else { Ok(()) }
}
