//! Disk: files whose cached and durable states differ, with faults of single calls.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use backstop_engine::disk::{Disk, DiskFile};
use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::process::{Process, lock};

/// Fault of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DiskFault {
    /// Half of the bytes are written, then the disk is full.
    ShortWrite,
    /// A write fails and writes nothing.
    FailedWrite,
    /// A sync fails: the bytes that were not durable never become durable, though reads return them
    /// and later syncs succeed.
    FailedSync,
    /// A sync fails, and what was not durable is gone at once.
    DroppedSync,
}

/// Disk of a machine.
pub struct SimDisk {
    state: Mutex<DiskState>,
}

#[derive(Default, Clone)]
struct DiskState {
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
    next: u64,
    /// Faults by the number of the write or sync.
    faults: BTreeMap<u64, DiskFault>,
    calls: u64,
    is_full: bool,
    is_gone: bool,
    /// Number of power cuts: an open file does not survive one.
    boots: u64,
    seed: u64,
}

#[derive(Default, Clone)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Parts of `cached` that a sync makes durable.
    dirty: Vec<Range<usize>>,
    locked: bool,
}

impl SimDisk {
    /// Returns an empty disk, whose calls fail as planned.
    pub fn new(seed: u64, faults: BTreeMap<u64, DiskFault>) -> Arc<Self> {
        let state = DiskState { faults, seed, ..DiskState::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Returns a disk with the same files and without faults.
    pub fn fork(&self) -> Arc<Self> {
        let mut state = self.state().clone();
        state.faults.clear();
        (state.is_full, state.is_gone) = (false, false);
        state.files.values_mut().for_each(|file| file.locked = false);
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Fills the disk, or frees space.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// Takes the mount away, or brings it back.
    pub fn set_gone(&self, is_gone: bool) {
        self.state().is_gone = is_gone;
    }

    /// Ends every fault.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        (state.is_full, state.is_gone) = (false, false);
    }

    /// Releases the locks of a process that died.
    pub fn release_locks(&self) {
        self.state().files.values_mut().for_each(|file| file.locked = false);
    }

    /// Cuts the power: only what is durable remains, and possibly parts of what was on its way.
    pub fn cut_power(&self) {
        let mut state = self.state();
        state.boots += 1;
        let mut dice = Dice::of(state.seed, "power", state.boots);
        let names = std::mem::take(&mut state.names);
        state.names = names
            .into_iter()
            .filter(|(path, inode)| state.durable_names.get(path) == Some(inode) || dice.chance(50))
            .collect();
        for (path, inode) in state.durable_names.clone() {
            // A removed name may come back: its removal was not durable.
            if !state.names.contains_key(&path) && dice.chance(50) {
                state.names.insert(path, inode);
            }
        }
        state.durable_names = state.names.clone();
        for file in state.files.values_mut() {
            file.lose_cache(&mut dice);
        }
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        lock(&self.state)
    }
}

impl Inode {
    fn lose_cache(&mut self, dice: &mut Dice) {
        for range in std::mem::take(&mut self.dirty) {
            let kept = range.start + dice.below((range.len() + 1) as u64) as usize;
            self.persist(range.start..kept);
        }
        self.cached = self.durable.clone();
        self.locked = false;
    }

    /// Lets reads return what is durable: zeros, if nothing is.
    fn drop_cached(&mut self, range: Range<usize>) {
        for at in range.filter(|at| *at < self.cached.len()).collect::<Vec<_>>() {
            self.cached[at] = self.durable.get(at).copied().unwrap_or(0);
        }
    }

    fn persist(&mut self, range: Range<usize>) {
        if range.is_empty() || range.end > self.cached.len() {
            return;
        }
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
    }
}

impl DiskState {
    fn check(&self) -> io::Result<()> {
        if self.is_gone { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn fault(&mut self) -> Option<DiskFault> {
        self.calls += 1;
        self.faults.get(&self.calls).copied()
    }
}

/// A process's view of the disk of its machine.
pub struct ProcessDisk {
    /// The disk.
    pub disk: Arc<SimDisk>,
    /// The process: one that has died writes nothing.
    pub process: Process,
}

impl ProcessDisk {
    fn state(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        if self.process.is_dead() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let state = self.disk.state();
        state.check()?;
        Ok(state)
    }

    fn file(&self, inode: u64, boots: u64) -> Box<dyn DiskFile> {
        let (disk, process) = (Arc::clone(&self.disk), self.process.clone());
        Box::new(SimFile { disk, process, inode, boots, holds_lock: Mutex::new(false) })
    }
}

impl Disk for ProcessDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state()?.folders.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.create(path)?;
        Ok(self.file(inode, state.boots))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state()?;
        let inode = state.names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode, state.boots))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state()?;
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None => state.create(path)?,
        };
        Ok(self.file(inode, state.boots))
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().is_ok_and(|state| state.names.contains_key(path) || state.folders.contains(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state()?;
        Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.state()?.names.remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        if matches!(state.fault(), Some(DiskFault::FailedSync | DiskFault::DroppedSync)) {
            return Err(device_error());
        }
        let is_in = |path: &Path| path.parent() == Some(dir);
        state.durable_names.retain(|path, _| !is_in(path));
        let names: Vec<_> = state
            .names
            .iter()
            .filter(|(path, _)| is_in(path))
            .map(|(path, inode)| (path.clone(), *inode))
            .collect();
        state.durable_names.extend(names);
        Ok(())
    }
}

impl DiskState {
    fn create(&mut self, path: &Path) -> io::Result<u64> {
        if path.parent().is_none_or(|folder| !self.folders.contains(folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.next += 1;
        self.files.insert(self.next, Inode::default());
        self.names.insert(path.to_owned(), self.next);
        Ok(self.next)
    }
}

fn device_error() -> io::Error {
    io::Error::other("input/output error")
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

struct SimFile {
    disk: Arc<SimDisk>,
    process: Process,
    inode: u64,
    boots: u64,
    holds_lock: Mutex<bool>,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimFile({})", self.inode)
    }
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut DiskState, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if self.process.is_dead() || state.boots != self.boots {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // A file that is open stays readable when its mount point vanishes from the tree.
        work(&mut state, self.inode)
    }
}

fn inode(state: &mut DiskState, number: u64) -> &mut Inode {
    state.files.entry(number).or_default()
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|state, number| Ok(inode(state, number).cached.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.with(|state, number| {
            let file = inode(state, number);
            let at = at as usize;
            let bytes = file.cached.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.with(|state, number| {
            if bytes.is_empty() {
                return Ok(());
            }
            let fault = if state.is_full { Some(DiskFault::ShortWrite) } else { state.fault() };
            let (written, result) = match fault {
                Some(DiskFault::ShortWrite) => (bytes.len() / 2, Err(full())),
                Some(DiskFault::FailedWrite) => (0, Err(device_error())),
                Some(DiskFault::FailedSync | DiskFault::DroppedSync) | None => (bytes.len(), Ok(())),
            };
            let (file, at) = (inode(state, number), at as usize);
            if file.cached.len() < at + written {
                file.cached.resize(at + written, 0);
            }
            file.cached[at..at + written].copy_from_slice(&bytes[..written]);
            file.dirty.push(at..at + written);
            result
        })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.with(|state, number| {
            let file = inode(state, number);
            file.cached.resize(size as usize, 0);
            file.dirty.iter_mut().for_each(|range| range.end = range.end.min(size as usize));
            file.dirty.retain(|range| !range.is_empty());
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, number| {
            let fault = state.fault();
            let file = inode(state, number);
            let dirty = std::mem::take(&mut file.dirty);
            match fault {
                Some(DiskFault::FailedSync) => return Err(device_error()),
                Some(DiskFault::DroppedSync) => {
                    dirty.into_iter().for_each(|range| file.drop_cached(range));
                    return Err(device_error());
                }
                _ => {}
            }
            dirty.into_iter().for_each(|range| file.persist(range));
            let size = file.cached.len();
            file.durable.truncate(size);
            Ok(())
        })
    }

    fn lock(&self) -> io::Result<bool> {
        self.with(|state, number| {
            let file = inode(state, number);
            let free = !file.locked;
            file.locked = true;
            *lock(&self.holds_lock) |= free;
            Ok(free)
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *lock(&self.holds_lock) {
            inode(&mut self.disk.state(), self.inode).locked = false;
        }
    }
}
