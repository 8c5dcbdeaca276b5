//! Stream loop: each round looks at the shard and the archive, decides from which server and
//! position to stream, and streams until that ends.

use std::time::Duration;

use backstop_binlog::Segmenter;
use backstop_policy::stream_or_fork::{StartPosition, StreamDecision, StreamFrom, stream_from};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::topology::Member;

use super::archiver::Archiver;
use super::binlog_source::{BinlogSource, ChosenSource};
use super::config::ArchiveUntil;
use super::gtid_divergence::SourceComparison;
use super::monitor::{Monitor, alert_unfit_source};
use super::refetch::Refetch;
use super::stream_reader::{StreamEnd, StreamReader};
use super::stream_state::{Retries, StreamState};
use super::upload::{has_journal, remove_spool_file};
use crate::report::{ArchiveReport, ArchivedFork, ArchivedGap};

const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Delay before a fork is confirmed, for a server that lacks archived transactions. If it may reuse
/// their GTIDs, the fork is confirmed immediately.
const FORK_CONFIRM_DELAY: Duration = Duration::from_secs(2);
/// Duration after which a stream counts as steady, so that its end is no failure.
const STEADY_STREAM_DURATION: Duration = Duration::from_secs(10);

/// Rounds of look, decide, act.
pub(super) struct StreamLoop<'a> {
    archiver: &'a Archiver<'a>,
    state: StreamState,
    retries: Retries,
    /// Transactions that a server lacked in the last round: a fork, if it lacks them again.
    suspected: Option<GtidSet>,
    report: ArchiveReport,
}

/// Observations of a round.
struct Sight<'a> {
    members: Vec<Member>,
    source: ChosenSource<'a>,
    opened: BinlogSource,
}

/// Next action of a round.
enum Decision {
    Wait(Duration),
    Stream(NextStream),
}

/// Beginning of a stream.
struct NextStream {
    start: StartPosition,
    /// Transactions that are lost to the archive before it.
    gap: GtidSet,
    /// The archived transactions that the server lacks; `Some`: another timeline begins.
    lacks: Option<GtidSet>,
}

/// Result of a round.
enum AfterRound {
    Again,
    /// The source could not send the requested transactions: the next round compares its GTID set
    /// again.
    Refused(Error),
    Wait(Duration),
    Done,
}

impl<'a> StreamLoop<'a> {
    pub(super) fn new(archiver: &'a Archiver<'a>, state: StreamState) -> Self {
        let report = ArchiveReport::new(archiver.config.shard.clone());
        Self { archiver, state, retries: Retries::new(), suspected: None, report }
    }

    /// Runs rounds until everything is archived, if the archiver ends then.
    ///
    /// # Errors
    /// Returns the error after which another round does not help.
    pub(super) async fn run(&mut self) -> Result<()> {
        let queue = &self.archiver.shared.queue;
        loop {
            if let Some(error) = queue.given_up() {
                self.resume_from_archive(&error).await;
            }
            match self.round().await {
                Ok(AfterRound::Again) => match self.empty_stream_error() {
                    None => {}
                    Some(error) if self.is_final(&error) => return Err(error),
                    Some(error) => self.retry_after(&error).await,
                },
                Ok(AfterRound::Wait(pause)) => self.archiver.sleep(pause).await,
                Ok(AfterRound::Done) => return Ok(()),
                Ok(AfterRound::Refused(error)) if !self.has_failed_too_often() => {
                    self.retry_after(&error).await;
                }
                Ok(AfterRound::Refused(error)) => return Err(error),
                Err(_) if queue.given_up().is_some() && !self.has_failed_too_often() => {
                    self.retries.failures += 1;
                }
                Err(error) if self.is_final(&error) => return Err(error),
                Err(error) => self.retry_after(&error).await,
            }
        }
    }

    /// Seals what was streamed.
    pub(super) async fn finish_file(&mut self) -> Result<()> {
        self.state.finish_file().await
    }

    /// Returns the report of the rounds.
    pub(super) fn into_report(self) -> ArchiveReport {
        self.report
    }

    async fn round(&mut self) -> Result<AfterRound> {
        let sight = self.look().await?;
        match self.decide(&sight).await? {
            Decision::Wait(pause) => Ok(AfterRound::Wait(pause)),
            Decision::Stream(next) => self.act(sight, next).await,
        }
    }

    /// Looks at the members and at the binlog of the one to stream from.
    async fn look(&mut self) -> Result<Sight<'a>> {
        let archiver = self.archiver;
        archiver.reporter().step("look");
        let members = archiver.config.topology.members().await?;
        let source = archiver.source(self.choose(&members)?, &members);
        let opened = source.open().await?;
        opened.refuse_plain_text(archiver.config.encryption, &source.from)?;
        Refetch { archiver, source: &source }.run(&mut self.state.unrecoverable).await?;
        Ok(Sight { members, source, opened })
    }

    /// Chooses the server to stream from. The shard's members may change at any time: while none
    /// fits, an archiver without an end condition waits.
    fn choose(&self, members: &[Member]) -> Result<StreamFrom> {
        let current = self.state.segmenter.as_ref().map(|(_, source)| *source);
        let streamed = self.report.source.as_ref();
        let fit = |from: StreamFrom| match streamed {
            // The current source is not given up, because less would be archived, but the alert is
            // raised.
            Some(endpoint) if *endpoint == from.endpoint => Ok(from),
            _ => from.refuse_unfit().map(|()| from),
        };
        let config = self.archiver.config;
        stream_from(config.settings.from, members, current).and_then(fit).map_err(|error| {
            match config.until {
                ArchiveUntil::Stopped if error.kind == ErrorKind::Refused => {
                    Error { kind: ErrorKind::Failed, ..error }
                }
                ArchiveUntil::Stopped | ArchiveUntil::CaughtUp => error,
            }
        })
    }

    /// Decides where to begin the stream, and on which timeline.
    async fn decide(&mut self, sight: &Sight<'_>) -> Result<Decision> {
        let Sight { members, source, opened } = sight;
        let history = &opened.history;
        let (mut next, at_once) = match self.state.compare(&source.from, history, members)? {
            StreamDecision::Behind(lacks) => return self.wait_for_replication(&source.from, &lacks),
            StreamDecision::Continue { from: start, gap } => {
                self.archiver.shared.alerts.clear("source");
                (NextStream { start, gap, lacks: None }, false)
            }
            StreamDecision::Fork { lacks, at_once: false, .. } if self.suspected.as_ref() != Some(&lacks) => {
                self.suspected = Some(lacks);
                return Ok(Decision::Wait(FORK_CONFIRM_DELAY));
            }
            StreamDecision::Fork { from: start, lacks, gap, at_once } => {
                (NextStream { start, gap, lacks: Some(lacks) }, at_once)
            }
        };
        self.suspected = None;
        let comparison = SourceComparison { archiver: self.archiver, source };
        if let Some(parted) = comparison.find(&mut self.state, at_once).await? {
            // The source has other transactions under archived GTIDs.
            self.archiver.reporter().notice(&format!(
                "{} lost the end of its binlog and reused its transaction numbers: it lacks the archived transactions {}",
                source.from.endpoint, parted.left
            ));
            next = NextStream {
                gap: history.purged.subtract(&parted.common),
                start: StartPosition::ExceptGtids(parted.common),
                lacks: Some(parted.left),
            };
        }
        Ok(Decision::Stream(next))
    }

    fn wait_for_replication(&mut self, from: &StreamFrom, lacks: &GtidSet) -> Result<Decision> {
        let what = format!("cannot archive from {}: it has not yet replicated {lacks}", from.endpoint);
        let error = Error::failed(what).hint("check that it replicates");
        self.retries.failures += 1;
        if self.has_failed_too_often() {
            return Err(error);
        }
        self.archiver.shared.alerts.raise("source", &error, REMINDER_INTERVAL);
        Ok(Decision::Wait(FORK_CONFIRM_DELAY))
    }

    async fn act(&mut self, sight: Sight<'_>, next: NextStream) -> Result<AfterRound> {
        let uuid = sight.source.from.server_uuid;
        if let Some(lacks) = &next.lacks {
            self.begin_timeline(&sight.source.from, lacks, &next.start).await?;
        }
        self.report_gap(&next.gap);
        if self.state.begin_segmenter(uuid, next.start, &next.gap).await? {
            self.archiver.shared.queue.force_upload();
        }
        self.stream(sight).await
    }

    /// Archives everything of the old timeline, then begins the new one.
    async fn begin_timeline(
        &mut self,
        from: &StreamFrom,
        lacks: &GtidSet,
        start: &StartPosition,
    ) -> Result<()> {
        let archiver = self.archiver;
        self.state.finish_file().await?;
        archiver.wait_until_drained().await?;
        let common = match start {
            StartPosition::ExceptGtids(set) => set.clone(),
            StartPosition::AfterLastSegment => GtidSet::new(),
        };
        let store = &archiver.shared.store;
        store.begin_timeline(from.server_uuid, &common, lacks, archiver.now()).await?;
        archiver.reporter().notice(&format!(
            "fork: {} lacks the archived transactions {lacks}; a new timeline begins, and the old one keeps them \
             (`backstop status {}` shows the timelines)",
            from.endpoint, archiver.config.shard
        ));
        let (source, at) = (from.server_uuid, archiver.now());
        self.report.forks.push(ArchivedFork { source, lacks: lacks.clone(), at });
        self.state.begin_timeline(common);
        archiver.shared.queue.archive_holds(self.state.held.as_ref());
        archiver.shared.queue.force_upload();
        Ok(())
    }

    /// Reports transactions that can no longer be archived. The archive itself shows the gap: the
    /// next segment's previous set is not in it.
    fn report_gap(&mut self, gap: &GtidSet) {
        if gap.is_empty() {
            return;
        }
        self.archiver.reporter().notice(&format!(
            "gap: transactions {gap} were purged from the source before they were archived, and the archive lacks them \
             (take a backup now; keep binlogs longer)"
        ));
        self.report.gaps.push(ArchivedGap { gtids: gap.clone(), at: self.archiver.now() });
        self.archiver.shared.queue.force_upload();
    }

    /// Streams until the source ends its stream, or another server or position is wanted.
    async fn stream(&mut self, sight: Sight<'_>) -> Result<AfterRound> {
        let archiver = self.archiver;
        let Sight { source, opened, .. } = sight;
        let from = &source.from;
        let StreamState { segmenter: Some((segmenter, _)), spool, .. } = &mut self.state else {
            return Ok(AfterRound::Again);
        };
        segmenter.based_on(&opened.history.purged);
        let reached = opened.history.reached.clone();
        let (mode, at_end) = (archiver.semi_sync_mode(), archiver.at_binlog_end());
        let (stream, acknowledger) =
            opened.stream(source.identity, segmenter.held().clone(), mode, at_end).await?;
        archiver.reporter().step("stream");
        archiver.reporter().remark(&format!("archiving from {}: {}", from.endpoint, from.reason));
        if !self.retries.are_empty() {
            archiver.shared.alerts.clear("stream");
        }
        alert_unfit_source(&archiver.shared, from);
        if let Some(why) = &from.doubtful {
            archiver.reporter().notice(&format!("archiving from {}: {why}", from.endpoint));
        }
        self.report.source = Some(from.endpoint.clone());
        archiver.shared.semi_sync_ack.connect(from.server_uuid, acknowledger).await;
        let begun = archiver.monotonic();
        let before = archiver.shared.queue.counts().published;
        let reader =
            StreamReader { archiver, source: from.server_uuid, stream, segmenter, spool, idle: None };
        let ended = tokio::select! {
            // The monitor first: a source that always has more events would use up the share of
            // this task, and the monitor would never see a new primary.
            biased;
            () = Monitor::new(archiver, &source, &reached).until_source_changes() => None,
            ended = reader.read() => Some(ended),
        };
        archiver.shared.semi_sync_ack.disconnect().await;
        archiver.stream_position.reset();
        if archiver.monotonic() >= begun + STEADY_STREAM_DURATION {
            self.retries.empty_streams = 0;
        }
        let held = segmenter.held().clone();
        self.state.hold(&held);
        if archiver.shared.queue.counts().published > before {
            self.retries.progressed();
        }
        match ended {
            Some(ended) => self.after_stream(&source, ended?).await,
            None => Ok(AfterRound::Again),
        }
    }

    async fn after_stream(&mut self, source: &ChosenSource<'_>, ended: StreamEnd) -> Result<AfterRound> {
        match ended {
            StreamEnd::AtEnd => {
                // Reconnect, since a source that shuts down ends its stream in the same way.
                source.open().await?;
                match self.archiver.config.until {
                    ArchiveUntil::CaughtUp => Ok(AfterRound::Done),
                    ArchiveUntil::Stopped => Ok(AfterRound::Again),
                }
            }
            StreamEnd::Refused(error) => Ok(AfterRound::Refused(error)),
            StreamEnd::Hole(previous) => {
                let uuid = source.from.server_uuid;
                self.state.segmenter = Some((Segmenter::new(uuid, previous), uuid));
                Ok(AfterRound::Again)
            }
        }
    }

    /// Resumes at the archive's end after the spooled transactions were given up. Acknowledged
    /// transactions stay in the spool until the next archiver starts and sees that the archive has
    /// them.
    async fn resume_from_archive(&mut self, why: &Error) {
        let archiver = self.archiver;
        archiver.shared.alerts.raise("spool file", why, REMINDER_INTERVAL);
        archiver.wait_until_idle().await;
        let (held, last) = archiver.shared.store.held().await;
        self.state.restart(held, last);
        archiver.shared.queue.archive_holds(self.state.held.as_ref());
        for path in archiver.shared.queue.restart() {
            let disk = &*archiver.shared.disk;
            if !has_journal(disk, &path) {
                remove_spool_file(disk, &path);
            }
        }
        archiver.reporter().remark("requesting the transactions that are not archived from the source again");
        // Delay the retry: disk and store may recover in between.
        archiver.sleep(self.retries.next_delay()).await;
    }

    async fn retry_after(&mut self, error: &Error) {
        self.retries.failures += 1;
        self.archiver.shared.alerts.raise("stream", error, REMINDER_INTERVAL);
        self.archiver.sleep(self.retries.next_delay()).await;
    }

    /// Returns the reason why a round that ended early is not repeated immediately: too many
    /// consecutive rounds ended without a new transaction.
    fn empty_stream_error(&mut self) -> Option<Error> {
        self.retries.empty_streams += 1;
        self.retries.are_empty().then(|| {
            Error::failed(format!(
                "cannot archive shard {}: the stream ended {} times without a new transaction",
                self.archiver.config.shard, self.retries.empty_streams
            ))
            .hint("check the source's error log; the archiver retries at growing intervals")
        })
    }

    /// True if another round does not help. A run until caught up does not wait for long.
    fn is_final(&self, error: &Error) -> bool {
        match error.kind {
            ErrorKind::Held | ErrorKind::Usage | ErrorKind::Refused => true,
            ErrorKind::Denied => {
                self.archiver.config.until == ArchiveUntil::CaughtUp || self.report.source.is_none()
            }
            _ => self.has_failed_too_often(),
        }
    }

    /// True if a run until caught up has failed too often.
    fn has_failed_too_often(&self) -> bool {
        self.archiver.config.until == ArchiveUntil::CaughtUp && self.retries.are_exhausted()
    }
}
