//! What an archiver left in a spool: it is archived before the first round, and removed only when the archive is seen to have it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_binlog::Segment;
use backstop_model::archive::Archive;
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_repo::ArchiveWriter;

use super::journal::{self, ASIDE, Left};
use super::upload::remove;
use super::{Archiving, Beside, FIRST_RETRY, State, everything};
use crate::ports::Reporter;

/// Folder for what was acknowledged from the spool and cannot be proven to be archived, though its transactions are.
const SET_ASIDE: &str = "set-aside";

/// Archives what a killed archiver had acknowledged from its spool, and makes segments of the tail it left.
///
/// # Errors
/// The store's; [`Kind::Damaged`] if the spool is, and refused for what does not fit the archive:
/// it stays where it is.
pub(super) async fn left_behind(
    store: &ArchiveWriter,
    spool: &Path,
    old_spool: Option<&Path>,
    reporter: &dyn Reporter,
) -> Result<()> {
    let noted = journal::noted(spool)?;
    for left in &noted.pieces {
        if place(store, left).await? == Place::Nowhere {
            return Err(Fault::refused(format!(
                "archive what is in the spool {}: transactions {} were acknowledged and do not fit the archive",
                spool.display(),
                left.segment.gtids
            ))
            .hint(ASIDE));
        }
    }
    if let Some(damage) = noted.damage {
        return Err(damage);
    }
    store.seal_tail().await?;
    clear(store, spool, &noted.pieces, reporter).await?;
    match old_spool {
        Some(dir) => old(store, dir, reporter).await,
        None => Ok(()),
    }
}

/// Where a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the archive, byte for byte, as far as its books say.
    Archived,
    /// Its transactions are in it, from another file.
    Elsewhere,
    Nowhere,
}

/// Archives a piece unless it is there.
async fn place(store: &ArchiveWriter, left: &Left) -> Result<Place> {
    let piece = &left.segment;
    if is_in(&store.contents().await, piece) {
        return Ok(Place::Archived);
    }
    let (held, last) = store.held().await;
    let last = last.iter().find(|last| last.source == piece.source);
    let missing = !held.as_ref().is_some_and(|held| piece.gtids.is_subset_of(held));
    if !missing && !piece.gtids.is_empty() {
        return Ok(Place::Elsewhere);
    }
    let mut bytes = left.bytes()?;
    let mut piece = piece.clone();
    match last {
        Some(last) if overlaps(last, &piece) => {
            bytes.drain(..usize::try_from(last.end - piece.start).unwrap_or(bytes.len()).min(bytes.len()));
            let had = piece.gtids.intersect(&last.held_after());
            piece.previous = piece.previous.union(&had);
            piece.gtids = piece.gtids.subtract(&had);
            piece.start = last.end;
        }
        Some(last) if !is_behind(last, &piece) => {
            return Ok(if piece.gtids.is_empty() { Place::Elsewhere } else { Place::Nowhere });
        }
        _ => {}
    }
    piece.hash = *blake3::hash(&bytes).as_bytes();
    store.put_tail(&piece, &bytes).await?;
    Ok(Place::Archived)
}

/// True if the archive has these bytes of this file.
fn is_in(archive: &Archive, piece: &Segment) -> bool {
    archive.segments.iter().any(|stored| {
        (stored.source, &stored.file) == (piece.source, &piece.file)
            && stored.start <= piece.start
            && piece.end <= stored.end
            && piece.gtids.is_subset_of(&stored.gtids)
    })
}

fn overlaps(last: &Segment, piece: &Segment) -> bool {
    last.file == piece.file && piece.start < last.end && last.end < piece.end
}

/// True if the piece comes after all that is archived of its server. The number in a file's name gets longer at last.
fn is_behind(last: &Segment, piece: &Segment) -> bool {
    (last.file.len(), last.file.as_str(), last.end) <= (piece.file.len(), piece.file.as_str(), piece.start)
}

/// Removes from the spool what the store is seen to have, and what nothing was acknowledged of. The rest is set aside.
async fn clear(store: &ArchiveWriter, spool: &Path, pieces: &[Left], reporter: &dyn Reporter) -> Result<()> {
    let mut unproven: BTreeMap<PathBuf, GtidSet> = BTreeMap::new();
    if !pieces.is_empty() {
        let stored = store.reader().checked().await?;
        for left in pieces.iter().filter(|left| !is_in(&stored, &left.segment)) {
            let of_file = unproven.entry(left.path.clone()).or_default();
            *of_file = of_file.union(&left.segment.gtids);
        }
    }
    for (path, gtids) in &unproven {
        let aside = set_aside(spool, path)?;
        reporter.notice(&format!(
            "{} was set aside as {}: its transactions {gtids} are archived, but not these bytes of them",
            path.display(),
            aside.display()
        ));
    }
    for path in journal::files(spool)? {
        std::fs::remove_file(&path).failed(format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn set_aside(spool: &Path, path: &Path) -> Result<PathBuf> {
    let dir = spool.join(SET_ASIDE);
    super::disk::private_folder(&dir).failed(format!("create {}", dir.display()))?;
    let name = path.file_name().unwrap_or_default();
    let aside = (0_u64..)
        .map(|number| dir.join(format!("{}.{number}", name.to_string_lossy())))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| dir.join(name));
    for (from, to) in [(path.to_owned(), aside.clone()), (journal::path_of(path), journal::path_of(&aside))] {
        std::fs::rename(&from, &to).failed(format!("move {}", from.display()))?;
    }
    Ok(aside)
}

/// Archives what was acknowledged from the spool of an older version and continues where the archive ends. It was named by the shard alone: what
/// does not fit may be another repository's, and nothing of it is removed.
async fn old(store: &ArchiveWriter, dir: &Path, reporter: &dyn Reporter) -> Result<()> {
    if journal::files(dir)?.is_empty() {
        return Ok(());
    }
    let noted = journal::noted(dir)?;
    let mut foreign = GtidSet::new();
    for left in &noted.pieces {
        let piece = &left.segment;
        let (held, last) = store.held().await;
        let last = last.into_iter().find(|last| last.source == piece.source);
        let goes_on = last.as_ref().is_some_and(|last| {
            let begins = piece.start == 0 && is_behind(last, piece);
            let previous = held.as_ref().is_some_and(|held| piece.previous.is_subset_of(held));
            previous && (begins || (last.file == piece.file && piece.start <= last.end))
        });
        let fits = is_in(&store.contents().await, piece) || goes_on;
        let placed = if fits { place(store, left).await } else { Ok(Place::Nowhere) };
        match placed {
            Ok(Place::Archived | Place::Elsewhere) => {}
            Ok(Place::Nowhere) => foreign = foreign.union(&piece.gtids),
            Err(fault) if fault.kind == Kind::Damaged => {
                reporter.notice(&fault.to_string());
                foreign = foreign.union(&piece.gtids);
            }
            Err(fault) => return Err(fault),
        }
    }
    if let Some(damage) = &noted.damage {
        reporter.notice(&damage.to_string());
    }
    store.seal_tail().await?;
    let what = if foreign.is_empty() && noted.damage.is_none() {
        "all that was acknowledged from it is archived: remove it when no older archiver runs".to_owned()
    } else {
        format!(
            "transactions {foreign} were acknowledged from it and do not fit this archive: they are another repository's, or can be read with mysqlbinlog"
        )
    };
    reporter.notice(&format!("the spool of an older version is left in {}; {what}", dir.display()));
    Ok(())
}

/// After what is spooled was given up: the next round continues at the archive's end. What was acknowledged from the spool stays there until
/// the archive is seen to have it, when the next archiver begins.
pub(super) async fn from_the_archive(a: &Archiving<'_>, beside: &Beside, state: &mut State) {
    while beside.queue.is_at_work() {
        let changed = beside.queue.changed.notified();
        tokio::select! {
            () = changed => {}
            () = a.world.clock.sleep(FIRST_RETRY) => {}
        }
    }
    state.cutter = None;
    state.spool.give_up();
    let (held, last) = a.store.held().await;
    state.held = everything(held, &last);
    state.last = last;
    for path in beside.queue.begin_again() {
        if !journal::path_of(&path).exists() {
            remove(&path);
        }
    }
    a.world.reporter.remark("what is not archived is asked of the source again");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use backstop_model::progress::Progress;
    use backstop_repo::Repository;
    use object_store::memory::InMemory;

    use super::super::queue::{At, Piece};
    use super::super::sample::{FILE, piece, server, set, transactions};
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Reporter for Told {
        fn step(&self, _: &'static str) {}
        fn progress(&self, _: Progress) {}
        fn notice(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    impl Told {
        fn all(&self) -> String {
            self.0.lock().unwrap().join("\n")
        }
    }

    async fn archive() -> ArchiveWriter {
        let repository = Repository::on(Arc::new(InMemory::new()), None).await.unwrap();
        repository.claim_archive(&"orders".parse().unwrap()).await.unwrap()
    }

    /// Notes transactions `from..=to` of the file that begins with the first at 0, as pieces of so many, as if they had been acknowledged.
    fn acknowledge(dir: &Path, name: &str, from: u64, to: u64, each: usize) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        let all = magic(to);
        let begin = if from == 1 { 0 } else { magic(from - 1).len() };
        std::fs::write(&path, &all[begin..]).unwrap();
        let mut lines = Vec::new();
        for number in (from..=to).step_by(each) {
            let last = (number + each as u64 - 1).min(to);
            let piece = noted(number, last);
            let bytes = &all[piece.start as usize..piece.end as usize];
            let at = At { source: server(), file: FILE.to_owned(), offset: piece.end };
            let skip = piece.start - begin as u64;
            lines.extend(journal::line(&at, &piece, skip, &blake3::hash(bytes)).unwrap());
        }
        std::fs::write(journal::path_of(&path), lines).unwrap();
        path
    }

    fn magic(to: u64) -> Vec<u8> {
        [&b"\xfebin"[..], &transactions(4, 1, to)].concat()
    }

    fn noted(from: u64, to: u64) -> Piece {
        let start = if from == 1 { 0 } else { magic(from - 1).len() as u64 };
        let bytes = &magic(to)[start as usize..];
        let previous = if from == 1 { GtidSet::new() } else { set(&format!("A:1-{}", from - 1)) };
        Piece { previous, ..piece(start, bytes, &format!("A:{from}-{to}")) }
    }

    async fn stored(store: &ArchiveWriter, from: u64, to: u64) {
        let (piece, bytes) = (noted(from, to), magic(to));
        let bytes = &bytes[piece.start as usize..];
        let at = At { source: server(), file: FILE.to_owned(), offset: piece.end };
        let segment = super::super::upload::segment(&at, &piece, *blake3::hash(bytes).as_bytes());
        store.put_tail(&segment, bytes).await.unwrap();
    }

    async fn held(store: &ArchiveWriter) -> GtidSet {
        store.held().await.0.unwrap_or_default()
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_archived_and_then_removed_however_it_overlaps() {
        let (dir, told) = (tempfile::tempdir().unwrap(), Told::default());
        let store = archive().await;
        stored(&store, 1, 3).await;
        acknowledge(dir.path(), "one", 1, 9, 2);
        // The same again in other pieces, and more: what a second file holds after the first was given up.
        acknowledge(dir.path(), "one+1", 4, 12, 3);
        std::fs::write(dir.path().join("never-noted"), "streamed only").unwrap();
        left_behind(&store, dir.path(), None, &told).await.unwrap();
        assert_eq!(held(&store).await, set("A:1-12"));
        let (_, last) = store.held().await;
        assert_eq!(last[0].end, magic(12).len() as u64);
        assert_eq!(journal::files(dir.path()).unwrap(), [] as [PathBuf; 0]);
        assert_eq!(told.all(), "");
    }

    #[tokio::test]
    async fn a_damaged_spool_is_refused_and_stays_and_what_is_good_is_archived_first() {
        let (dir, told) = (tempfile::tempdir().unwrap(), Told::default());
        let store = archive().await;
        let path = acknowledge(dir.path(), "one", 1, 9, 3);
        let journal = journal::path_of(&path);
        let mut lines = std::fs::read(&journal).unwrap();
        let second = lines.iter().position(|byte| *byte == b'\n').unwrap() + 40;
        lines[second] ^= 1;
        std::fs::write(&journal, &lines).unwrap();
        let fault = left_behind(&store, dir.path(), None, &told).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Damaged);
        assert_eq!(held(&store).await, set("A:1-3"));
        assert_eq!(std::fs::read(&journal).unwrap(), lines);
        assert!(path.exists());
        // So are bytes that are no longer what was noted.
        acknowledge(dir.path(), "one", 1, 9, 3);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(magic(7).len());
        std::fs::write(&path, bytes).unwrap();
        let fault = left_behind(&store, dir.path(), None, &told).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Damaged);
        assert!(fault.message.contains(":7-9"), "{fault}");
        assert_eq!(held(&store).await, set("A:1-6"));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn the_spool_of_an_older_version_is_archived_where_it_goes_on_and_is_left() {
        let (dir, told) = (tempfile::tempdir().unwrap(), Told::default());
        let (spool, old) = (dir.path().join("new"), dir.path().join("old"));
        acknowledge(&old, "one", 1, 9, 3);
        // Nothing of this server is archived here: it may be another cluster's.
        let other = archive().await;
        left_behind(&other, &spool, Some(&old), &told).await.unwrap();
        assert_eq!(held(&other).await, GtidSet::new());
        assert!(told.all().contains(":1-9"), "{}", told.all());
        let store = archive().await;
        stored(&store, 1, 3).await;
        left_behind(&store, &spool, Some(&old), &told).await.unwrap();
        assert_eq!(held(&store).await, set("A:1-9"));
        assert!(told.all().contains("all that was acknowledged from it is archived"), "{}", told.all());
        assert_eq!(journal::files(&old).unwrap().len(), 2, "nothing of it is removed");
    }
}
