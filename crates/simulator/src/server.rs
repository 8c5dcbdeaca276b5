//! Server: a MySQL server in memory, with binlog files, replication and semi-synchronous commits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backstop_types::gtid::{Gtid, GtidSet, Sid};
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::topology::{ExternalVerdict, InstanceState, Member, NoAnswer, ReplicationFidelity};
use tokio::sync::Notify;

use crate::binlog_bytes::{self, Content, MAGIC, kind};
use crate::process::{EPOCH_SECONDS, lock};
use crate::trace::Trace;
use crate::truth::Truth;

/// Time that a commit waits for an acknowledgement (`rpl_semi_sync_source_timeout`).
const SEMI_SYNC_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without commits after a reset: an acknowledgement that is on its way from the stream of the
/// old binlog covers every commit at a lower offset of a new file of the same name, and no archiver
/// can call it back.
const QUIET_AFTER_RESET: Duration = Duration::from_secs(10);

/// A server.
pub struct SimServer {
    /// Its address.
    pub endpoint: Endpoint,
    pub(crate) trace: Arc<Trace>,
    /// Everything committed anywhere.
    pub truth: Arc<Truth>,
    state: Mutex<ServerState>,
    /// Notified after each change.
    pub(crate) changed: Notify,
}

/// State of a server.
pub struct ServerState {
    /// Its identity.
    pub uuid: ServerUuid,
    /// True if it accepts connections.
    pub is_up: bool,
    /// True if it accepts writes.
    pub is_primary: bool,
    /// True while it sends nothing.
    pub is_stalled: bool,
    /// True if its commits wait for acknowledgements.
    pub has_semi_sync: bool,
    /// Number of times that its sessions were ended.
    pub(crate) generation: u64,
    pub(crate) files: Vec<Arc<LogFile>>,
    pub(crate) executed: GtidSet,
    pub(crate) purged: GtidSet,
    /// Every transaction since the last reset, in order.
    pub(crate) log: Vec<(Gtid, Content)>,
    /// Commits that wait for an acknowledgement.
    pending: VecDeque<WaitingCommit>,
    /// False after a wait was given up, until a replica has caught up.
    semi_sync_on: bool,
    next_number: u64,
    quiet_until: Duration,
    /// True while a rotation waits for commits.
    wants_rotation: bool,
}

struct WaitingCommit {
    gtid: Gtid,
    content: Content,
    file: String,
    end: u64,
    since: Duration,
}

/// A binlog file. It exists as long as a dump thread reads it.
pub struct LogFile {
    pub(crate) name: String,
    pub(crate) previous: GtidSet,
    server_id: u32,
    state: Mutex<FileState>,
}

#[derive(Default)]
struct FileState {
    events: Vec<FileEvent>,
    end: u64,
    next: Option<Arc<LogFile>>,
}

/// An event of a file.
#[derive(Debug, Clone)]
pub struct FileEvent {
    /// The transaction that it belongs to.
    pub gtid: Option<Gtid>,
    /// True for the last event of a transaction.
    pub ends: bool,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl LogFile {
    fn begin(number: u64, server_id: u32, previous: GtidSet) -> Arc<Self> {
        let state = Mutex::new(FileState { end: MAGIC.len() as u64, ..FileState::default() });
        let file = Self { name: format!("binlog.{number:06}"), previous, server_id, state };
        file.push(kind::FORMAT_DESCRIPTION, &binlog_bytes::format_description());
        file.push(kind::PREVIOUS_GTIDS, &binlog_bytes::encode_set(&file.previous));
        Arc::new(file)
    }

    /// Returns the offset after its last event.
    pub fn end(&self) -> u64 {
        lock(&self.state).end
    }

    fn number(&self) -> u64 {
        self.name.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn push(&self, kind: u8, body: &[u8]) {
        let mut state = lock(&self.state);
        let bytes = binlog_bytes::event_at(kind, self.server_id, state.end, body);
        state.end += bytes.len() as u64;
        state.events.push(FileEvent { gtid: None, ends: false, bytes });
    }

    fn commit(&self, gtid: &Gtid, content: &Content) {
        let mut state = lock(&self.state);
        let events = binlog_bytes::transaction(state.end, self.server_id, gtid, content);
        for (at, bytes) in events.into_iter().enumerate() {
            state.end += bytes.len() as u64;
            state.events.push(FileEvent { gtid: Some(gtid.clone()), ends: at == 2, bytes });
        }
    }

    /// Returns the events after the first `count`.
    pub fn events_after(&self, count: usize) -> Vec<FileEvent> {
        lock(&self.state).events.get(count..).unwrap_or_default().to_vec()
    }

    /// Returns the file after it. A file that was deleted by a reset has none.
    pub fn next(&self) -> Option<Arc<Self>> {
        lock(&self.state).next.clone()
    }
}

impl SimServer {
    /// Returns a server without transactions.
    pub fn new(number: u8, trace: &Arc<Trace>, truth: &Arc<Truth>) -> Arc<Self> {
        let server_id = u32::from(number);
        let state = ServerState {
            uuid: uuid_of(number, 0),
            is_up: true,
            is_primary: false,
            is_stalled: false,
            has_semi_sync: false,
            generation: 0,
            files: vec![LogFile::begin(1, server_id, GtidSet::new())],
            executed: GtidSet::new(),
            purged: GtidSet::new(),
            log: Vec::new(),
            pending: VecDeque::new(),
            semi_sync_on: true,
            next_number: 1,
            quiet_until: Duration::ZERO,
            wants_rotation: false,
        };
        Arc::new(Self {
            endpoint: Endpoint::new(format!("db{number:x}"), 3306),
            trace: Arc::clone(trace),
            truth: Arc::clone(truth),
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// Returns its state.
    pub fn state(&self) -> MutexGuard<'_, ServerState> {
        lock(&self.state)
    }

    /// Changes its state, and wakes what waits for a change.
    pub fn change<T>(&self, change: impl FnOnce(&mut ServerState) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_waiters();
        changed
    }

    /// Commits transactions of clients.
    pub fn commit(&self, count: u64, size: usize) {
        let now = self.trace.now();
        self.change(|state| {
            if !state.is_up || !state.is_primary || now < state.quiet_until {
                return;
            }
            for _ in 0..count {
                let sid = Sid { uuid: state.uuid.0, tag: String::new() };
                let gtid = Gtid { sid, number: state.next_number };
                state.next_number += 1;
                let nth = state.log.len() as u64;
                let committed = EPOCH_SECONDS as u64 * 1_000_000 + now.as_micros() as u64 + nth;
                let statement = format!("INSERT INTO t VALUES ({nth}, '{}')", "x".repeat(size));
                let content = Content { committed, statement };
                self.truth.commit(&gtid, &content);
                state.write(&gtid, &content, now);
            }
        });
    }

    /// Applies what another server has and this one lacks, up to `limit` transactions.
    pub fn replicate(&self, source: &Self, limit: usize) {
        let executed = self.state().executed.clone();
        let missing: Vec<(Gtid, Content)> = {
            let source = source.state();
            if !source.is_up || !source.purged.is_subset_of(&executed) {
                return;
            }
            let missing = source.log.iter().filter(|(gtid, _)| !executed.contains(gtid));
            missing.take(limit).cloned().collect()
        };
        let now = self.trace.now();
        self.change(|state| {
            if state.is_up {
                missing.iter().for_each(|(gtid, content)| state.write(gtid, content, now));
            }
        });
    }

    /// Begins another binlog file.
    pub fn rotate(&self) {
        self.change(ServerState::rotate);
    }

    /// Ends its sessions.
    pub fn disconnect(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Purges all files but the newest `keep`. Files that a dump thread reads are purged too.
    pub fn purge(&self, keep: usize) {
        self.change(|state| {
            let gone = state.files.len().saturating_sub(keep.max(1));
            state.files.drain(..gone);
            state.purged = state.purged.union(&state.files[0].previous);
            self.truth.purge(&state.purged);
        });
    }

    /// Deletes all binlogs and GTIDs (`RESET BINARY LOGS AND GTIDS`). Dump threads stay where they
    /// are. `purged`: transactions that are set as purged afterwards.
    pub fn reset(&self, purged: Option<&GtidSet>) {
        let quiet_until = self.trace.now() + QUIET_AFTER_RESET;
        self.change(|state| {
            let server_id = state.files[0].server_id;
            state.quiet_until = quiet_until;
            state.files = vec![LogFile::begin(1, server_id, GtidSet::new())];
            (state.executed, state.purged) = (GtidSet::new(), GtidSet::new());
            state.log.clear();
            state.pending.clear();
            state.wants_rotation = false;
            state.next_number = 1;
            if let Some(purged) = purged {
                (state.executed, state.purged) = (purged.clone(), purged.clone());
                self.truth.purge(purged);
                state.next_number = state.highest() + 1;
            }
        });
    }

    /// Restarts after a crash that lost the last `lost` transactions of its binlog.
    pub fn crash(&self, lost: usize) {
        self.change(|state| {
            state.generation += 1;
            state.give_up_all_waits();
            let kept = state.log.len().saturating_sub(lost.min(state.in_last_file()));
            state.cut_log(kept);
            state.next_number = state.highest() + 1;
            state.rotate();
        });
    }

    /// Replaces it by a copy of another server, with another identity.
    pub fn rebuild(&self, source: &Self, incarnation: u8) {
        let executed = source.state().executed.clone();
        self.change(|state| {
            let server_id = state.files[0].server_id;
            state.uuid = uuid_of(server_id as u8, incarnation);
            state.generation += 1;
            state.files = vec![LogFile::begin(1, server_id, GtidSet::new())];
            self.truth.purge(&executed);
            (state.executed, state.purged) = (executed.clone(), executed);
            state.log.clear();
            state.pending.clear();
            state.next_number = 1;
            (state.is_up, state.is_primary, state.is_stalled) = (true, false, false);
        });
    }

    /// Handles an acknowledgement: every waiting commit up to this position is acknowledged.
    pub fn acknowledged(&self, file: &str, offset: u64) {
        self.trace.event(&self.endpoint.host, format_args!("acknowledged {file} {offset}"));
        let done = self.change(|state| {
            let covers = |commit: &WaitingCommit| (commit.file.as_str(), commit.end) <= (file, offset);
            let count = state.pending.iter().take_while(|commit| covers(commit)).count();
            let done: Vec<WaitingCommit> = state.pending.drain(..count).collect();
            done.iter().for_each(|commit| state.executed.insert(&commit.gtid));
            let (name, end) = state.position();
            state.semi_sync_on |= (file, offset) >= (name.as_str(), end);
            state.rotate_at_last();
            done
        });
        self.truth.acknowledge(done.iter().map(|commit| (&commit.gtid, &commit.content)));
    }

    /// Gives up waits for acknowledgements that took too long.
    pub fn give_up_waits(&self) {
        let now = self.trace.now();
        self.change(|state| {
            if state.pending.front().is_some_and(|commit| commit.since + SEMI_SYNC_TIMEOUT <= now) {
                state.semi_sync_on = false;
                state.give_up_all_waits();
            }
        });
    }

    /// Returns it as a member of its shard.
    pub fn member(&self) -> Member {
        let state = self.state();
        let answer = InstanceState {
            server_uuid: state.uuid,
            server_id: state.files[0].server_id,
            version: "9.7.4".parse().unwrap(),
            gtid_mode_on: true,
            read_only: !state.is_primary,
            gtid_executed: state.executed.clone(),
            gtid_purged: state.purged.clone(),
            semi_sync_replica: false,
            semi_sync_source_loaded: true,
            replication: None,
            fidelity: ReplicationFidelity::default(),
            group: None,
        };
        let silent = NoAnswer::Unreachable("connection refused".to_owned());
        let answers = state.is_up && !state.is_stalled;
        Member {
            endpoint: self.endpoint.clone(),
            candidate: false,
            state: if answers { Ok(answer) } else { Err(silent) },
            verdict: ExternalVerdict::default(),
        }
    }
}

impl ServerState {
    /// Returns the end of its binlog.
    pub fn position(&self) -> (String, u64) {
        self.files.last().map(|file| (file.name.clone(), file.end())).unwrap_or_default()
    }

    /// Accepts commits although a reset is recent.
    pub fn end_quiet(&mut self) {
        self.quiet_until = Duration::ZERO;
    }

    /// Returns everything in its binlog, waiting commits included, and everything purged.
    pub fn reached(&self) -> GtidSet {
        self.pending.iter().fold(self.executed.clone(), |mut all, commit| {
            all.insert(&commit.gtid);
            all
        })
    }

    /// Returns all executed transactions.
    pub fn executed(&self) -> &GtidSet {
        &self.executed
    }

    /// Returns the number of waiting commits.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn owned(&self) -> String {
        let owned = self.pending.iter().map(|commit| format!("{}#7", commit.gtid));
        owned.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn semi_sync_status(&self) -> &'static str {
        if self.has_semi_sync && self.semi_sync_on { "ON" } else { "OFF" }
    }

    fn write(&mut self, gtid: &Gtid, content: &Content, since: Duration) {
        let Some(file) = self.files.last().cloned() else { return };
        file.commit(gtid, content);
        self.log.push((gtid.clone(), content.clone()));
        if self.has_semi_sync && self.semi_sync_on && self.is_primary {
            let (gtid, content) = (gtid.clone(), content.clone());
            let (file, end) = (file.name.clone(), file.end());
            self.pending.push_back(WaitingCommit { gtid, content, file, end, since });
        } else {
            self.executed.insert(gtid);
        }
    }

    /// Ends all waits without an acknowledgement.
    pub(crate) fn give_up_all_waits(&mut self) {
        while let Some(commit) = self.pending.pop_front() {
            self.executed.insert(&commit.gtid);
        }
        self.rotate_at_last();
    }

    /// Rotates if that was asked for and no commit waits any more.
    fn rotate_at_last(&mut self) {
        if self.wants_rotation && self.pending.is_empty() {
            self.rotate();
        }
    }

    /// Begins another file, as soon as no commit waits: mysqld does not leave a file with prepared
    /// transactions.
    fn rotate(&mut self) {
        self.wants_rotation = !self.pending.is_empty();
        if self.wants_rotation {
            return;
        }
        let Some(last) = self.files.last().cloned() else { return };
        let previous = self.reached();
        let next = LogFile::begin(last.number() + 1, last.server_id, previous);
        last.push(kind::ROTATE, &binlog_bytes::rotate(&next.name));
        lock(&last.state).next = Some(Arc::clone(&next));
        self.files.push(next);
    }

    /// Returns the number of transactions in the newest file.
    fn in_last_file(&self) -> usize {
        let last = self.files.last().map(|file| file.events_after(0)).unwrap_or_default();
        last.iter().filter(|event| event.ends).count()
    }

    /// Cuts the binlog to its first transactions. The others are in the newest file.
    fn cut_log(&mut self, kept: usize) {
        let Some(last) = self.files.pop() else { return };
        let fresh = LogFile::begin(last.number(), last.server_id, last.previous.clone());
        let lost: Vec<_> = self.log.drain(kept..).collect();
        let is_lost = |gtid: &Gtid| lost.iter().any(|(other, _)| other == gtid);
        let in_file: Vec<Gtid> = last
            .events_after(0)
            .into_iter()
            .filter(|event| event.ends)
            .filter_map(|event| event.gtid)
            .collect();
        for gtid in in_file.iter().filter(|gtid| !is_lost(gtid)) {
            if let Some((gtid, content)) = self.log.iter().find(|(other, _)| other == gtid) {
                fresh.commit(gtid, content);
            }
        }
        let mut gone = GtidSet::new();
        lost.iter().for_each(|(gtid, _)| gone.insert(gtid));
        self.executed = self.executed.subtract(&gone);
        if let Some(before) = self.files.last() {
            lock(&before.state).next = Some(Arc::clone(&fresh));
        }
        self.files.push(fresh);
    }

    fn highest(&self) -> u64 {
        let own = self.reached().of_uuid(self.uuid);
        own.iter().map(|(_, _, end)| end - 1).max().unwrap_or(0)
    }
}

fn uuid_of(number: u8, incarnation: u8) -> ServerUuid {
    let mut bytes = [number; 16];
    bytes[4] = incarnation;
    ServerUuid(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
