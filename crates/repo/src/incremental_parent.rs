//! Follows a parent's index while its child is stored.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use backstop_types::error::{Error, Result};

use crate::block_extents::{
    BLOCK_BYTES, BlockLocation, Extent, Extents, ExtentsReader, PackEntry, blocks_of,
};
use crate::encrypted_store::EncryptedStore;
use crate::encryption::Digest;
use crate::fingerprints::FingerprintsReader;
use crate::keys::{PackId, ShardKeys};
use crate::manifest::{FileEntry, Manifest, Storage};
use crate::object::{ObjectResult, ReadHeader};

/// Files, blocks and packs of the parent, read once from front to back.
pub(crate) struct Parent {
    files: Vec<FileEntry>,
    packs: Vec<PackEntry>,
    /// Packs that are missing or damaged: their blocks are stored again. Looked up for each block,
    /// never iterated.
    lost: HashSet<PackId>,
    fingerprints: FingerprintsReader,
    extents: ExtentsReader,
    extent: Option<Extent>,
    /// File whose blocks come next, and the first of them that was not passed.
    file: usize,
    block: u64,
}

/// One block of the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParentBlock {
    pub(crate) fingerprint: Digest,
    pub(crate) place: BlockLocation,
}

impl Parent {
    /// Opens the parent. `known` are the keys of objects that a verification found damaged.
    pub(crate) async fn open(
        store: &EncryptedStore,
        keys: &ShardKeys,
        manifest: &Manifest,
        known: &BTreeSet<String>,
    ) -> Result<Self> {
        let Storage::Blocks { files, extents, fingerprints, .. } = &manifest.storage else {
            return Err(Error::failed("cannot store an increment: the parent is not in this repository"));
        };
        let blocks: Vec<u64> = files.iter().map(|file| blocks_of(file.size)).collect();
        let total = blocks.iter().sum();
        let extents = Extents::open(store, extents, ReadHeader::Tail).await?;
        let stored: BTreeMap<String, u64> = store.list(&keys.packs()).await?.into_iter().collect();
        let is_lost = |pack: &&PackEntry| {
            let key = keys.pack(pack.id);
            stored.get(&key) != Some(&pack.size) || known.contains(&key)
        };
        Ok(Self {
            lost: extents.packs.iter().filter(is_lost).map(|pack| pack.id).collect(),
            files: files.clone(),
            fingerprints: FingerprintsReader::open(store, fingerprints, total, ReadHeader::Tail).await?,
            extents: extents.read(blocks),
            packs: extents.packs,
            extent: None,
            file: 0,
            block: 0,
        })
    }

    pub(crate) fn packs(&self) -> &[PackEntry] {
        &self.packs
    }

    /// Returns the number of packs that are missing or damaged.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.len() as u64
    }

    /// Advances to the file of this path, past all files before it in order. `None` if there is
    /// none.
    pub(crate) fn seek(&mut self, path: &str) -> ObjectResult<Option<FileEntry>> {
        while let Some(file) = self.files.get(self.file) {
            if file.path.as_str() < path {
                self.pass_file()?;
                continue;
            }
            return Ok((file.path == path).then(|| file.clone()));
        }
        Ok(None)
    }

    /// Returns the next block as [`Parent::next`] does; `None` also for a block of a missing or
    /// damaged pack.
    pub(crate) fn next_sound(&mut self) -> ObjectResult<Option<ParentBlock>> {
        let next = self.next()?;
        Ok(next.filter(|block| match block.place {
            BlockLocation::Zero => true,
            BlockLocation::Pack { pack, .. } => {
                self.packs.get(pack as usize).is_some_and(|pack| !self.lost.contains(&pack.id))
            }
        }))
    }

    /// Returns the next block of the file that [`Parent::seek`] found; `None` after its last.
    fn next(&mut self) -> ObjectResult<Option<ParentBlock>> {
        let Some(file) = self.files.get(self.file) else { return Ok(None) };
        if self.block == blocks_of(file.size) {
            return Ok(None);
        }
        let fingerprint = self.fingerprints.blocking_next()?;
        let place = self.place()?;
        self.block += 1;
        Ok(Some(ParentBlock { fingerprint, place }))
    }

    fn pass_file(&mut self) -> ObjectResult<()> {
        while self.next()?.is_some() {}
        (self.file, self.block) = (self.file + 1, 0);
        Ok(())
    }

    fn place(&mut self) -> ObjectResult<BlockLocation> {
        let here = |extent: &Extent| {
            extent.file as usize == self.file
                && (extent.first..extent.first + extent.count).contains(&self.block)
        };
        let extent = match self.extent.filter(here) {
            Some(extent) => extent,
            // The reader checks the coverage: the next extent begins exactly here.
            None => match self.extents.blocking_next()? {
                Some(extent) => *self.extent.insert(extent),
                None => return Ok(BlockLocation::Zero),
            },
        };
        Ok(match extent.place {
            BlockLocation::Zero => BlockLocation::Zero,
            BlockLocation::Pack { pack, block } => {
                BlockLocation::Pack { pack, block: block + (self.block - extent.first) as u32 }
            }
        })
    }
}

/// Returns the number of whole blocks that two sizes of a file have in common, so that neither ends
/// within them.
pub(crate) fn common_blocks(a: u64, b: u64) -> u64 {
    if a == b { blocks_of(a) } else { a.min(b) / BLOCK_BYTES as u64 }
}
