//! Fork: the state of the store and of the archivers' disks, with every process killed and every
//! server lost, in which archivers recover what they can.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstop_engine::archive::ArchiveUntil;
use backstop_types::error::ErrorKind;

use crate::archiver::{ArchiverActor, Surroundings};
use crate::bucket::Bucket;
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::oracle::{Oracle, Replayed, beside};
use crate::process::{Machine, Process, lock};
use crate::schedule::Acknowledge;
use crate::server::SimServer;
use crate::store::StoreWorld;
use crate::trace::Trace;
use crate::truth::Truth;

/// State at a moment.
pub struct Fork {
    /// Objects of the store.
    pub bucket: Bucket,
    /// Name and disk of each archiver's machine.
    pub disks: Vec<(String, Arc<SimDisk>)>,
    /// Use of semi-synchronous replication.
    pub acknowledge: Acknowledge,
    /// Seed of delays.
    pub seed: u64,
    /// Everything committed so far.
    pub truth: Arc<Truth>,
}

/// Result of the recovery in a fork.
pub struct ForkRecovery {
    /// What a recovery replays.
    pub replayed: Replayed,
    /// Broken rules of the archive.
    pub broken: Vec<String>,
    /// Reasons why a spool was refused and stays where it is.
    pub refused: Vec<String>,
    /// Events as text.
    pub lines: Vec<String>,
}

impl Fork {
    /// Starts each archiver once, without any server.
    pub fn recover(self) -> ForkRecovery {
        beside(|| async {
            let trace = Arc::new(Trace::begin(true));
            let store = StoreWorld::with(self.bucket, Arc::clone(&trace));
            let server = SimServer::new(0xcc, &trace, &Arc::default());
            server.state().is_up = false;
            let servers = [server];
            let around = Surroundings {
                store: &store,
                servers: &servers,
                trace: &trace,
                acknowledge: self.acknowledge,
                seed: self.seed,
            };
            let mut refused = Vec::new();
            for (name, disk) in &self.disks {
                let archiver = ArchiverActor::new(name, &around, Arc::clone(disk), BTreeMap::new());
                archiver.run_once(ArchiveUntil::CaughtUp).await;
                let error = lock(&archiver.last_error).clone();
                let error = error.filter(|error| error.kind == ErrorKind::Refused);
                refused.extend(error.map(|error| error.to_string()));
            }
            let observer = Process::start(&Machine::new("observer"), 1, Dice::new(self.seed), &trace);
            let oracle = Oracle::new(&store, &self.truth, &trace, observer.host());
            let examined = oracle.examine();
            let (_, _, lines) = trace.end();
            ForkRecovery { replayed: examined.replayed, broken: examined.broken, refused, lines }
        })
    }
}
