//! Seeing that the store keeps what it took: it is asked for the newest entries of the journal, and what it lost is put again while the spool
//! has it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_repo::LostEntry;

use super::{Archiving, Beside};

/// How often the store is asked after something was stored, and otherwise.
const LOOK: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(60);
const REMIND: Duration = Duration::from_secs(60);
const PART: &str = "store's memory";

/// Looks for as long as it is polled. Ends with what ends the archiver: another holds the shard.
pub(super) async fn kept(a: &Archiving<'_>, beside: &Beside) -> Fault {
    // What was seen to be there up to, and when; what could not be put again the last time.
    let (mut seen, mut missed) = (None, BTreeSet::new());
    loop {
        a.world.clock.sleep(LOOK).await;
        let (newest, now) = (a.store.newest().await, a.world.clock.monotonic());
        if seen.is_some_and(|(number, at)| number == newest && now < at + SELDOM) {
            continue;
        }
        match look(a, beside, &mut missed).await {
            Ok(()) => {
                beside.trouble.over(PART);
                seen = Some((newest, now));
            }
            Err(fault) if fault.kind == Kind::Held => return fault,
            Err(fault) => beside.trouble.is(PART, &fault, REMIND),
        }
    }
}

async fn look(a: &Archiving<'_>, beside: &Beside, missed: &mut BTreeSet<u64>) -> Result<()> {
    let before = std::mem::take(missed);
    let mut gone: Vec<LostEntry> = Vec::new();
    for lost in a.store.lost().await? {
        match bytes(beside, &lost).await? {
            Some(bytes) => {
                a.store.put_again(&lost, &bytes).await?;
                a.world.reporter.notice(&format!(
                    "the store took {} and lost it; it was put again (see why it does not keep what it took)",
                    lost.object()
                ));
            }
            // A segment may just be taking its place.
            None if !before.contains(&lost.number()) || beside.queue.is_replacing() => {
                missed.insert(lost.number());
            }
            None => {
                missed.insert(lost.number());
                gone.push(lost);
            }
        }
    }
    let Some(first) = gone.first() else { return Ok(()) };
    let gtids = first.piece().map(|piece| piece.gtids.to_string()).unwrap_or_default();
    let message = format!(
        "keep the archive: the store took {} with transactions {gtids} and lost it, and the spool no longer has it ({} in all)",
        first.object(),
        gone.len()
    );
    Err(Fault::new(Kind::Damaged, message)
        .hint("take a backup now, and see why the store does not keep what it took"))
}

/// The bytes of what was in an entry, if the spool has them.
async fn bytes(beside: &Beside, lost: &LostEntry) -> Result<Option<Vec<u8>>> {
    let Some(piece) = lost.piece() else { return Ok(Some(Vec::new())) };
    let Some((path, skip)) = beside.queue.place_of(&piece) else { return Ok(None) };
    let size = usize::try_from(piece.size()).unwrap_or(usize::MAX);
    let read = tokio::task::spawn_blocking(move || read(path, skip, size));
    let bytes = read.await.failed("read the spool")?;
    Ok(bytes.filter(|bytes| *blake3::hash(bytes).as_bytes() == piece.hash))
}

fn read(path: PathBuf, skip: u64, size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    File::open(path).and_then(|file| file.read_exact_at(&mut bytes, skip)).ok()?;
    Some(bytes)
}
