//! Segments as files in a directory.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::ids::ServerUuid;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, AsyncWriteExt};

use crate::segment::{Segment, SegmentSink, SegmentSource};

/// Stores segments in a directory, each in a file `UUID/FILE.START`. A segment that is not sealed
/// yet is in `unsealed`. In memory it keeps only a list of the segments it has sealed.
#[derive(Debug)]
pub struct SegmentFolder {
    path: PathBuf,
    unsealed: Option<File>,
    sealed: Vec<Segment>,
}

impl SegmentFolder {
    /// Uses an existing directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), unsealed: None, sealed: Vec::new() }
    }

    /// Returns the sealed segments, in the order of sealing.
    pub fn sealed(&self) -> &[Segment] {
        &self.sealed
    }

    /// Returns the path of a sealed segment.
    pub fn path_of(&self, segment: &Segment) -> PathBuf {
        self.path.join(segment.source.to_string()).join(format!("{}.{:012}", segment.file, segment.start))
    }

    fn unsealed(&mut self) -> Result<&mut File> {
        self.unsealed.as_mut().ok_or_else(|| Error::failed("cannot write a segment: none is open"))
    }
}

#[async_trait]
impl SegmentSink for SegmentFolder {
    async fn begin(&mut self, _: ServerUuid, _: &str, _: u64) -> Result<()> {
        let path = self.path.join("unsealed");
        self.unsealed = Some(File::create(&path).await.failed(format!("cannot create {}", path.display()))?);
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.unsealed()?.write_all(bytes).await.failed("cannot write a segment")
    }

    async fn cut_back(&mut self, size: u64) -> Result<()> {
        let file = self.unsealed()?;
        file.flush().await.failed("cannot write a segment")?;
        file.set_len(size).await.failed("cannot truncate a segment")?;
        file.seek(SeekFrom::Start(size)).await.failed("cannot truncate a segment").map(drop)
    }

    async fn seal(&mut self, segment: &Segment) -> Result<()> {
        let path = self.path_of(segment);
        let doing = format!("cannot seal {}", path.display());
        let file = self.unsealed()?;
        file.flush().await.failed(&doing)?;
        file.sync_data().await.failed(&doing)?;
        let folder = path.parent().unwrap_or(&self.path);
        tokio::fs::create_dir_all(folder).await.failed(&doing)?;
        tokio::fs::rename(self.path.join("unsealed"), &path).await.failed(&doing)?;
        sync(folder).await.failed(&doing)?;
        sync(&self.path).await.failed(&doing)?;
        self.unsealed = None;
        self.sealed.push(segment.clone());
        Ok(())
    }
}

#[async_trait]
impl SegmentSource for SegmentFolder {
    async fn segments(&self) -> Result<Vec<Segment>> {
        Ok(self.sealed.clone())
    }

    async fn open(&self, segment: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let path = self.path_of(segment);
        Ok(Box::new(File::open(&path).await.failed(format!("cannot open {}", path.display()))?))
    }
}

/// Makes the names in a directory durable.
async fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder).await?.sync_all().await
}
