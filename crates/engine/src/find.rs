//! Search: which transactions of the archive touched what, so that a recovery can stop just before one of them.

use std::collections::VecDeque;

use backstop_binlog::changes;
use backstop_model::archive::{Archive, ArchivedSegment, Line};
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::gtid::{Gtid, GtidSet};
use backstop_model::ids::ShardName;
use backstop_model::progress::{Progress, Unit};
use backstop_model::report::{Advice, ChangeKind, FindReport, Found, SearchedPart, TableRows};
use backstop_model::suspect::suspects;
use backstop_model::target::Target;
use backstop_repo::ArchiveReader;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};

use crate::piece::{self, Bytes};
use crate::plan::{Ground, Stored, Wanted};
use crate::world::World;

/// What is looked for. Everything must fit.
#[derive(Debug, Clone)]
pub struct Search {
    /// Whose archive.
    pub shard: ShardName,
    /// A certain line; `None`: the current one.
    pub line: Option<u32>,
    /// Committed then or later.
    pub from: Option<DateTime<Utc>>,
    /// Committed then or before.
    pub until: Option<DateTime<Utc>>,
    /// Touched this table, or this schema's.
    pub table: Option<TableName>,
    /// Of this kind.
    pub kind: Option<ChangeKind>,
    /// Touched at least so many rows.
    pub rows: Option<u64>,
    /// Not more than so many are given.
    pub limit: usize,
}

/// A table, in any schema if none is said.
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

/// Searches a line of the archive from its end, several pieces at a time. Memory is bounded by the limit.
///
/// # Errors
/// [`Kind::NotRecoverable`] if nothing is archived or there is no such line; [`Kind::Damaged`] naming a piece that is.
pub async fn find(archive: &ArchiveReader, search: &Search, world: &World) -> Result<FindReport> {
    let contents = archive.checked().await?;
    let line = line(&contents, search)?;
    let pieces = pieces(&contents, line, search);
    warn(&contents, line, world);
    let total: u64 = pieces.iter().map(|(segment, _)| segment.size()).sum();
    let parallel = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    let reads = pieces.into_iter().rev().map(|(segment, own)| searched(archive, segment, own, search));
    let mut reads = futures::stream::iter(reads).buffered(parallel);
    let mut report = FindReport {
        shard: search.shard.clone(),
        line: line.number,
        left_line: search.line,
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
        world.reporter.progress(Progress { done: report.read.bytes, total: Some(total), unit: Unit::Bytes });
        if report.transactions.len() > search.limit {
            break;
        }
    }
    report.more = report.transactions.len() > search.limit;
    report.transactions.truncate(search.limit);
    Ok(report)
}

/// Transactions that a plan is asked about, at most.
const SUSPECTS: usize = 20;

/// Which of the transactions found a recovery is most likely to stop before: the most suspicious one that can be planned for.
///
/// # Errors
/// As [`Ground::survey`].
pub async fn advise(report: &FindReport, stored: &Stored<'_>) -> Result<Option<Advice>> {
    if report.transactions.is_empty() {
        return Ok(None);
    }
    let ground = Ground::survey(stored).await?;
    for (found, why) in suspects(&report.transactions).into_iter().take(SUSPECTS) {
        let target = found.to.parse::<Target>().failed("read a target")?;
        if ground.plan(&Wanted::standalone(&report.shard, target, report.left_line)).await.is_ok() {
            return Ok(Some(Advice { gtid: found.gtid.clone(), to: found.to.clone(), why }));
        }
    }
    Ok(None)
}

fn line<'a>(archive: &'a Archive, search: &Search) -> Result<&'a Line> {
    let shard = &search.shard;
    let none = || Fault::new(Kind::NotRecoverable, format!("search shard {shard}: nothing is archived"));
    match search.line {
        None => archive.current().ok_or_else(|| none().hint(format!("run `backstop archive {shard}`"))),
        Some(number) => archive.line(number).ok_or_else(|| {
            let numbers: Vec<String> = archive.lines.iter().map(|line| line.number.to_string()).collect();
            let message = format!("search shard {shard}: there is no line {number}");
            Fault::new(Kind::NotRecoverable, message).hint(format!("the lines are: {}", numbers.join(", ")))
        }),
    }
}

/// The pieces that may hold what is looked for, each with the transactions that no piece before it holds.
fn pieces(archive: &Archive, line: &Line, search: &Search) -> Vec<(ArchivedSegment, GtidSet)> {
    let mut seen = GtidSet::new();
    let mut pieces = Vec::new();
    for segment in archive.history(line.number) {
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

fn warn(archive: &Archive, line: &Line, world: &World) {
    let lost = archive.lost(line.number);
    if !lost.is_empty() {
        world
            .reporter
            .notice(&format!("transactions that cannot be searched, since their pieces are damaged: {lost}"));
    }
}

type Searched = (Vec<Found>, SearchedPart);

async fn searched(
    archive: &ArchiveReader,
    segment: ArchivedSegment,
    own: GtidSet,
    search: &Search,
) -> Result<Searched> {
    let input = archive.open(&segment).await?;
    let search = search.clone();
    let (start, end) = (segment.start, segment.end);
    let understood = piece::read(input, move |bytes| understand(bytes, start, end, &own, &search)).await;
    let (found, transactions) = understood.map_err(|fault| fault.during(&segment.object))?;
    Ok((found, SearchedPart { segments: 1, bytes: segment.size(), transactions }))
}

fn understand(
    input: Bytes,
    start: u64,
    end: u64,
    own: &GtidSet,
    search: &Search,
) -> Result<(Vec<Found>, u64)> {
    let (mut newest, mut transactions) = (VecDeque::new(), 0);
    changes(input, start, end, &mut |found| {
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

impl Search {
    fn fits(&self, found: &Found) -> bool {
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
