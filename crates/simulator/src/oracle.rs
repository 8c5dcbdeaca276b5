//! Oracle: reads the store without faults, and compares it with the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};

use backstop_host::Host;
use backstop_repo::{ArchiveReader, Repository, Storage, VerifyDepth};
use backstop_types::archive::{Archive, ArchivedSegment};
use backstop_types::error::{Error, Result};
use backstop_types::gtid::{Gtid, GtidSet};
use backstop_types::ids::ShardName;
use backstop_types::progress::Progress;
use tokio::io::AsyncReadExt;

use crate::binlog_bytes::{ContentHash, transactions_in};
use crate::keeper::BackupLedger;
use crate::process::lock;
use crate::store::{SimStore, StoreWorld};
use crate::trace::Trace;
use crate::truth::Truth;

type Parsed = Arc<Vec<(Gtid, ContentHash)>>;

/// Transactions, by the identity of their content, which includes their number.
pub type Replayed = BTreeSet<ContentHash>;

/// Observer of a store, which sees every effect and delays nothing.
pub struct Oracle {
    store: Arc<StoreWorld>,
    truth: Arc<Truth>,
    trace: Arc<Trace>,
    host: Host,
    shard: ShardName,
    reader: Mutex<Option<Arc<ArchiveReader>>>,
    /// Transactions of each object that was read before: objects never change.
    parsed: Mutex<BTreeMap<(String, String, u64), Parsed>>,
}

/// Result of an examination.
#[derive(Debug, Default)]
pub struct Examined {
    /// What a recovery replays, on any timeline.
    pub replayed: Replayed,
    /// The transactions of the current timeline.
    pub held: GtidSet,
    /// Broken rules.
    pub broken: Vec<String>,
}

/// Runs work in a runtime of its own thread, at one moment of the simulated time.
pub fn beside<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(work())
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn ignore(_: Progress) {
    // An oracle shows no progress.
}

impl Oracle {
    /// Returns an observer. Its host is used for reads only.
    pub fn new(store: &Arc<StoreWorld>, truth: &Arc<Truth>, trace: &Arc<Trace>, host: Host) -> Self {
        Self {
            store: Arc::clone(store),
            truth: Arc::clone(truth),
            trace: Arc::clone(trace),
            host,
            shard: "orders".parse().unwrap(),
            reader: Mutex::default(),
            parsed: Mutex::default(),
        }
    }

    /// Checks that the archive is well-formed, and that every acknowledged transaction is
    /// recoverable.
    pub fn check_acknowledged(&self, when: &str) {
        let examined = self.examine();
        for broken in examined.broken {
            self.trace.fail(format!("{when}: {broken}"));
        }
        self.require(&examined.replayed, when);
    }

    /// Checks that every acknowledged transaction is among these.
    pub fn require(&self, replayed: &Replayed, when: &str) {
        let lost = self.truth.unrecoverable(replayed);
        if let Some(first) = lost.first() {
            let count = lost.len();
            self.trace
                .fail(format!("{when}: {count} acknowledged transactions are not recoverable: {first}"));
        }
    }

    /// Examines the archive as it is now.
    pub fn examine(&self) -> Examined {
        let examined = beside(|| async {
            let reader = self.reader().await?;
            let archive = reader.contents().await?;
            self.examined(&reader, &archive).await
        });
        examined.unwrap_or_else(|error| Examined {
            broken: vec![format!("the archive cannot be read: {error}")],
            ..Examined::default()
        })
    }

    /// Verifies every byte of the archive with a reader that has read nothing before.
    pub fn verify(&self) -> Vec<String> {
        let verified = beside(|| async {
            *lock(&self.reader) = None;
            self.reader().await?.verify(VerifyDepth::Content, &ignore).await
        });
        match verified {
            Ok(report) => {
                report.damaged.iter().map(|damage| format!("{}: {}", damage.object, damage.wrong)).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    /// Checks that every listed backup is one of those that were begun, and that every confirmed
    /// backup is listed and whole until its deletion is begun.
    pub fn check_backups(&self, ledger: &BackupLedger, when: &str) {
        let checked = beside(|| async {
            let store = Arc::new(SimStore::instant(&self.store));
            let repository = Repository::on(store, None, self.host.clone()).await?;
            let reader = repository.reader(&self.shard);
            let mut catalog = BTreeMap::new();
            for entry in reader.catalog().await? {
                let id = entry.facts.backup_id;
                catalog.insert(id.clone(), reader.manifest(&id).await?.storage);
            }
            Ok::<_, Error>((catalog, reader.verify(VerifyDepth::Content, &ignore).await?))
        });
        let (listed, verified) = match checked {
            Ok(checked) => checked,
            Err(error) => return self.trace.fail(format!("{when}: the backups cannot be read: {error}")),
        };
        for damage in &verified.damaged {
            self.trace.fail(format!("{when}: damaged backups: {damage:?}"));
        }
        let begun = lock(&ledger.begun);
        for (id, storage) in &listed {
            let Storage::Ebs { snapshot_ids, .. } = storage else { continue };
            if begun.get(id) != snapshot_ids.first() {
                self.trace.fail(format!("{when}: a listed backup is not the one that was made: {id}"));
            }
        }
        let condemned = lock(&ledger.condemned);
        for id in
            lock(&ledger.confirmed).iter().filter(|id| !listed.contains_key(id) && !condemned.contains(id))
        {
            self.trace.fail(format!("{when}: a confirmed backup is not listed: {id}"));
        }
    }

    async fn reader(&self) -> Result<Arc<ArchiveReader>> {
        if let Some(reader) = lock(&self.reader).clone() {
            return Ok(reader);
        }
        let store = Arc::new(SimStore::instant(&self.store));
        let repository = Repository::on(store, None, self.host.clone()).await?;
        let reader = Arc::new(repository.archive(&self.shard));
        if repository.exists() {
            *lock(&self.reader) = Some(Arc::clone(&reader));
        }
        Ok(reader)
    }

    async fn examined(&self, reader: &ArchiveReader, archive: &Archive) -> Result<Examined> {
        let mut examined = Examined::default();
        if lock(&self.store.forgotten).is_empty() {
            let damaged = archive.damaged.iter();
            examined
                .broken
                .extend(damaged.map(|damage| format!("damaged: {}: {}", damage.object, damage.wrong)));
        }
        for timeline in &archive.timelines {
            let mut replay = Replay::default();
            for segment in archive.segments_on(timeline.number) {
                let parsed = match self.parse(reader, &segment).await? {
                    Ok(parsed) => parsed,
                    Err(why) => {
                        examined.broken.push(format!("segment {} {}: {why}", segment.number, segment.object));
                        continue;
                    }
                };
                replay.add(&segment, &parsed, &self.truth, &mut examined.broken);
            }
            examined.replayed.extend(replay.replayed);
        }
        let current = archive.current().and_then(|timeline| archive.held(timeline.number));
        examined.held = current.unwrap_or_default();
        Ok(examined)
    }

    async fn parse(
        &self,
        reader: &ArchiveReader,
        segment: &ArchivedSegment,
    ) -> Result<std::result::Result<Parsed, String>> {
        let key = (segment.object.clone(), segment.digest.clone(), segment.start);
        if let Some(parsed) = lock(&self.parsed).get(&key) {
            return Ok(Ok(Arc::clone(parsed)));
        }
        let mut bytes = Vec::new();
        let mut input = match reader.open(segment).await {
            Ok(input) => input,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Err(error) = input.read_to_end(&mut bytes).await {
            return Ok(Err(error.to_string()));
        }
        if bytes.len() as u64 != segment.size() {
            return Ok(Err(format!("it has {} bytes instead of {}", bytes.len(), segment.size())));
        }
        let parsed = match transactions_in(segment.start, &bytes) {
            Ok(parsed) => Arc::new(parsed),
            Err(why) => return Ok(Err(why)),
        };
        lock(&self.parsed).insert(key, Arc::clone(&parsed));
        Ok(Ok(parsed))
    }
}

/// Replay of a timeline.
#[derive(Default)]
struct Replay {
    held: Option<GtidSet>,
    replayed: Replayed,
    done: GtidSet,
}

impl Replay {
    fn add(&mut self, segment: &ArchivedSegment, parsed: &Parsed, truth: &Truth, broken: &mut Vec<String>) {
        let name = format!("segment {} of timeline {}", segment.number, segment.timeline);
        if let Some(held) = &self.held {
            let gap = segment.previous.subtract(held).subtract(&truth.purged());
            if !gap.is_empty() {
                broken.push(format!("{name} follows a gap of {gap}, which no server purged"));
            }
        }
        let mut found = GtidSet::new();
        for (gtid, hash) in parsed.iter().filter(|(gtid, _)| segment.gtids.contains(gtid)) {
            found.insert(gtid);
            if !truth.knows(hash) {
                broken.push(format!("{name} has {gtid} with a content that was never committed"));
            }
            // A promoted server's file may repeat what was archived from its predecessor.
            if !self.done.contains(gtid) {
                self.done.insert(gtid);
                self.replayed.insert(*hash);
            } else if !self.replayed.contains(hash) {
                broken.push(format!("{name} has a second content of {gtid}"));
            }
        }
        let claimed = segment.gtids.subtract(&found);
        if !claimed.is_empty() {
            broken.push(format!("{name} claims {claimed}, which its bytes lack"));
        }
        let held = self.held.take().unwrap_or_default();
        self.held = Some(held.union(&segment.held_after()));
    }
}
