//! Search: finds the archived transactions that touched given tables, so that a recovery can stop
//! just before one of them.

use std::collections::VecDeque;

use backstop_binlog::{ChangeKind, FoundTransaction, TableRows, transaction_changes};
use backstop_policy::recovery_target::RecoveryTarget;
use backstop_repo::ArchiveReader;
use backstop_types::archive::{Archive, ArchivedSegment, Timeline};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::gtid::{Gtid, GtidSet};
use backstop_types::ids::ShardName;
use backstop_types::progress::{Progress, ProgressUnit};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};

use crate::context::RunContext;
use crate::plan::{PlanInputs, PlanOptions, Planner};
use crate::read_segment::{self, ChunkReader};
use crate::report::{FindReport, RecoveryAdvice, SearchedPart};
use crate::suspect_transactions::rank_suspects;

/// Search criteria; a transaction must match all of them.
#[derive(Debug, Clone)]
pub struct TransactionSearch {
    /// Shard of the archive.
    pub shard: ShardName,
    /// Timeline to search; `None`: the current one.
    pub timeline: Option<u32>,
    /// Earliest commit time, inclusive.
    pub from: Option<DateTime<Utc>>,
    /// Latest commit time, inclusive.
    pub until: Option<DateTime<Utc>>,
    /// Table that was touched, or a table of that name in any schema.
    pub table: Option<TableName>,
    /// Kind of change.
    pub kind: Option<ChangeKind>,
    /// Least number of touched rows.
    pub rows: Option<u64>,
    /// Largest number of results.
    pub limit: usize,
}

/// A table, in any schema if none is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Its schema.
    pub schema: Option<String>,
    /// Its name.
    pub table: String,
}

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.replace('`', "");
        let (schema, table) = match plain.split_once('.') {
            Some((schema, table)) => (Some(schema.to_owned()), table.to_owned()),
            None => (None, plain),
        };
        if table.is_empty() || schema.as_ref().is_some_and(String::is_empty) {
            return Err("write TABLE or SCHEMA.TABLE".to_owned());
        }
        Ok(Self { schema, table })
    }
}

/// Searches a timeline of the archive backwards from its end, several segments at a time. The limit
/// bounds the memory.
///
/// # Errors
/// Returns [`ErrorKind::NotRecoverable`] if nothing is archived or the timeline does not exist;
/// [`ErrorKind::Damaged`] naming a damaged segment.
pub async fn find(
    archive: &ArchiveReader,
    search: &TransactionSearch,
    ctx: &RunContext,
) -> Result<FindReport> {
    let contents = archive.checked().await?;
    let timeline = line(&contents, search)?;
    let pieces = candidate_segments(&contents, timeline, search);
    warn(&contents, timeline, ctx);
    let total: u64 = pieces.iter().map(|(segment, _)| segment.size()).sum();
    let parallel = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    let reads = pieces.into_iter().rev().map(|(segment, own)| search_segment(archive, segment, own, search));
    let mut reads = futures::stream::iter(reads).buffered(parallel);
    let mut report = FindReport {
        shard: search.shard.clone(),
        timeline: timeline.number,
        abandoned_timeline: search.timeline,
        transactions: Vec::new(),
        more: false,
        advice: None,
        read: SearchedPart::default(),
    };
    while let Some((found, read)) = reads.try_next().await? {
        report.read.segments += read.segments;
        report.read.bytes += read.bytes;
        report.read.transactions += read.transactions;
        report.transactions.extend(found);
        ctx.reporter.progress(Progress {
            done: report.read.bytes,
            total: Some(total),
            unit: ProgressUnit::Bytes,
        });
        if report.transactions.len() > search.limit {
            break;
        }
    }
    report.more = report.transactions.len() > search.limit;
    report.transactions.truncate(search.limit);
    Ok(report)
}

/// Largest number of transactions for which a plan is tried.
const MAX_ADVICE_CANDIDATES: usize = 20;

/// Suggests the transaction that a recovery most likely stops before: the most suspicious of the
/// results for which a plan exists.
///
/// # Errors
/// As [`Planner::survey`].
pub async fn advise(report: &FindReport, stored: &PlanInputs<'_>) -> Result<Option<RecoveryAdvice>> {
    if report.transactions.is_empty() {
        return Ok(None);
    }
    let ground = Planner::load(stored).await?;
    for (found, why) in rank_suspects(&report.transactions).into_iter().take(MAX_ADVICE_CANDIDATES) {
        let target = found.to.parse::<RecoveryTarget>().failed("cannot parse a target")?;
        if ground
            .plan(&PlanOptions::standalone(&report.shard, target, report.abandoned_timeline))
            .await
            .is_ok()
        {
            return Ok(Some(RecoveryAdvice { gtid: found.gtid.clone(), to: found.to.clone(), why }));
        }
    }
    Ok(None)
}

fn line<'a>(archive: &'a Archive, search: &TransactionSearch) -> Result<&'a Timeline> {
    let shard = &search.shard;
    let none =
        || Error::new(ErrorKind::NotRecoverable, format!("cannot search shard {shard}: nothing is archived"));
    match search.timeline {
        None => archive.current().ok_or_else(|| none().hint(format!("run `backstop archive {shard}`"))),
        Some(number) => archive.timeline(number).ok_or_else(|| {
            let numbers: Vec<String> =
                archive.timelines.iter().map(|timeline| timeline.number.to_string()).collect();
            let message = format!("cannot search shard {shard}: there is no timeline {number}");
            Error::new(ErrorKind::NotRecoverable, message)
                .hint(format!("use one of the timelines {}", numbers.join(", ")))
        }),
    }
}

/// Returns the segments that may match, each with the transactions that no segment before it holds.
fn candidate_segments(
    archive: &Archive,
    timeline: &Timeline,
    search: &TransactionSearch,
) -> Vec<(ArchivedSegment, GtidSet)> {
    let mut seen = GtidSet::new();
    let mut pieces = Vec::new();
    for segment in archive.history(timeline.number) {
        let own = segment.gtids.subtract(&seen);
        seen = seen.union(&segment.gtids);
        let in_time = segment.committed.is_none_or(|(first, last)| {
            search.from.is_none_or(|from| last >= from) && search.until.is_none_or(|until| first <= until)
        });
        if in_time && !own.is_empty() {
            pieces.push((segment, own));
        }
    }
    pieces
}

fn warn(archive: &Archive, timeline: &Timeline, ctx: &RunContext) {
    let lost = archive.lost(timeline.number);
    if !lost.is_empty() {
        ctx.reporter
            .notice(&format!("these transactions cannot be searched, as their segments are damaged: {lost}"));
    }
}

type SegmentMatches = (Vec<FoundTransaction>, SearchedPart);

async fn search_segment(
    archive: &ArchiveReader,
    segment: ArchivedSegment,
    own: GtidSet,
    search: &TransactionSearch,
) -> Result<SegmentMatches> {
    let input = archive.open(&segment).await?;
    let search = search.clone();
    let (start, end) = (segment.start, segment.end);
    let understood =
        read_segment::read_segment(input, move |bytes| parse_segment(bytes, start, end, &own, &search)).await;
    let (found, transactions) = understood.map_err(|error| error.during(&segment.object))?;
    Ok((found, SearchedPart { segments: 1, bytes: segment.size(), transactions }))
}

fn parse_segment(
    input: ChunkReader,
    start: u64,
    end: u64,
    own: &GtidSet,
    search: &TransactionSearch,
) -> Result<(Vec<FoundTransaction>, u64)> {
    let (mut newest, mut transactions) = (VecDeque::new(), 0);
    transaction_changes(input, start, end, &mut |found| {
        if found.gtid.parse::<Gtid>().is_ok_and(|gtid| own.contains(&gtid)) {
            transactions += 1;
            if search.fits(&found) {
                newest.push_front(found);
                newest.truncate(search.limit.saturating_add(1));
            }
        }
    })?;
    Ok((newest.into(), transactions))
}

impl TransactionSearch {
    fn fits(&self, found: &FoundTransaction) -> bool {
        let since = self.from.is_none_or(|from| found.committed_at.is_some_and(|at| at >= from));
        let before = self.until.is_none_or(|until| found.committed_at.is_some_and(|at| at <= until));
        let kind = self.kind.is_none_or(|kind| found.kind == kind);
        let rows = self.rows.is_none_or(|rows| found.rows >= rows || found.statement_based);
        let table =
            self.table.as_ref().is_none_or(|wanted| found.tables.iter().any(|table| wanted.is(table)));
        since && before && kind && rows && table
    }
}

impl TableName {
    fn is(&self, table: &TableRows) -> bool {
        let schema = self.schema.as_ref().is_none_or(|schema| *schema == table.schema);
        schema && (self.table == table.table || table.table == "*" || self.table == "*")
    }
}
