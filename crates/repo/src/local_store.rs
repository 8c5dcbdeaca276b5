//! Store in a directory that is opened once and reached only through that descriptor. Before and
//! after every write, the store compares the directory at the path with the open one, so that it
//! neither writes nor reports success if another volume, or none, is mounted there.

mod pinned_directory;

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use backstop_host::Host;
use backstop_types::error::Error;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use uuid::Uuid;

use crate::encrypted_store::EncryptedStore;
use crate::repo_header;
use crate::store_error::DirectoryReplaced;
use pinned_directory::FileStamp;
pub(crate) use pinned_directory::PinnedDirectory;

/// Store in a directory.
#[derive(Clone)]
pub(crate) struct LocalStore {
    inner: Arc<LocalStoreInner>,
}

struct LocalStoreInner {
    path: PathBuf,
    host: Host,
    state: RwLock<LocalStoreState>,
}

#[derive(Default)]
struct LocalStoreState {
    /// `None` while the directory does not exist, or another one has replaced it.
    pinned: Option<Arc<PinnedDirectory>>,
    /// Id of the repository in it, once known.
    repository: Option<Uuid>,
    /// Stamp of its root object when that named the repository.
    stamp: Option<FileStamp>,
}

impl LocalStore {
    /// Creates the store; opens the directory as soon as it exists.
    pub(crate) fn new(path: PathBuf, host: Host) -> Self {
        Self { inner: Arc::new(LocalStoreInner { path, host, state: RwLock::default() }) }
    }

    /// From now on, accepts only this repository at the path.
    pub(crate) fn expect(&self, repository: Option<Uuid>) {
        if let Ok(mut state) = self.inner.state.write() {
            (state.repository, state.stamp) = (repository, None);
        }
    }

    /// Returns the path of the open directory, with the handle that keeps it open. `None` if there
    /// is none.
    pub(crate) async fn directory(&self) -> Result<Option<(Arc<PinnedDirectory>, PathBuf)>> {
        let pinned = self.inner.reading().await?;
        Ok(pinned.map(|pinned| (Arc::clone(&pinned), pinned.path())))
    }
}

impl LocalStoreInner {
    /// Returns the open directory for reading.
    async fn reading(&self) -> Result<Option<Arc<PinnedDirectory>>> {
        let (held, repository) = self.state.read().map_or((None, None), |s| (s.pinned.clone(), s.repository));
        match (held, repository) {
            (Some(pinned), _) => Ok(Some(pinned)),
            (None, Some(_)) => self.named().await.map(Some),
            (None, None) => match self.named().await {
                Ok(pinned) => Ok(Some(pinned)),
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Returns the open directory if the path still names it. Opens the directory at the path
    /// instead if that holds the same repository.
    async fn named(&self) -> Result<Arc<PinnedDirectory>> {
        let (held, repository, stamp) = match self.state.read() {
            Ok(state) => (state.pinned.clone(), state.repository, state.stamp),
            Err(_) => (None, None, None),
        };
        let found = PinnedDirectory::look(&self.path, held, &self.host).await;
        let found = found.map_err(|error| self.wrong(error))?;
        let now = found.root;
        if found.same && (repository.is_none() || (now.is_some() && now == stamp)) {
            return Ok(found.pinned);
        }
        if let Some(expected) = repository {
            let proven = self.prove(&found.pinned, expected).await;
            if let Err(error) = proven {
                self.keep(None, None);
                return Err(error);
            }
        }
        self.keep(Some(found.pinned.clone()), now);
        Ok(found.pinned)
    }

    /// Checks that the path names the directory that was written to.
    async fn still(&self, pinned: &Arc<PinnedDirectory>) -> Result<()> {
        let named = self.named().await?;
        if named.identity == pinned.identity {
            return Ok(());
        }
        Err(self.elsewhere("it was mounted again"))
    }

    async fn prove(&self, pinned: &PinnedDirectory, expected: Uuid) -> Result<()> {
        let store: Arc<dyn ObjectStore> = Arc::new(pinned.store.clone());
        match repo_header::repository_id(&EncryptedStore::plain(store, self.host.clone())).await {
            Ok(id) if id == expected => Ok(()),
            Ok(id) => Err(self.elsewhere(&format!("it holds repository {id}, not {expected}"))),
            Err(error) => {
                let why = Error::from(error).message;
                Err(self.elsewhere(&format!("repository {expected} is not in it ({why})")))
            }
        }
    }

    fn keep(&self, pinned: Option<Arc<PinnedDirectory>>, stamp: Option<FileStamp>) {
        if let Ok(mut state) = self.state.write() {
            (state.pinned, state.stamp) = (pinned, stamp);
        }
    }

    fn wrong(&self, error: std::io::Error) -> object_store::Error {
        match error.kind() {
            ErrorKind::NotFound => {
                let known = self.state.read().is_ok_and(|state| state.repository.is_some());
                self.keep(None, None);
                match known {
                    true => self.elsewhere("it is gone"),
                    false => object_store::Error::NotFound {
                        path: self.path.display().to_string(),
                        source: Box::new(error),
                    },
                }
            }
            _ => object_store::Error::Generic { store: "file", source: Box::new(error) },
        }
    }

    fn elsewhere(&self, wrong: &str) -> object_store::Error {
        let source = Box::new(DirectoryReplaced { path: self.path.clone(), wrong: wrong.to_owned() });
        object_store::Error::Generic { store: "file", source }
    }
}

fn is_absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
}

fn absent(path: &Path) -> object_store::Error {
    object_store::Error::NotFound { path: path.to_string(), source: "there is no directory".into() }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.inner.path.display())
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}", self.inner.path.display())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let pinned = self.inner.named().await?;
        let (held, location) = (Arc::clone(&pinned), location.clone());
        // An abandoned put continues in the background: the handle keeps the directory open for it.
        let put = async move { held.store.put_opts(&location, payload, opts).await };
        let put = self.inner.host.spawn(put);
        let done = put
            .await
            .map_err(|error| object_store::Error::Generic { store: "file", source: Box::new(error) })??;
        self.inner.still(&pinned).await.map(|()| done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let pinned = self.inner.named().await?;
        let upload = pinned.store.put_multipart_opts(location, opts).await?;
        Ok(Box::new(LocalUpload { upload, pinned, held: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let pinned = self.inner.reading().await?.ok_or_else(|| absent(location))?;
        pinned.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let pinned = self.inner.reading().await?.ok_or_else(|| absent(location))?;
        pinned.store.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let inner = Arc::clone(&self.inner);
        let removing = async move {
            inner.named().await.map(|pinned| keep_open(pinned.store.delete_stream(locations), pinned))
        };
        stream::once(removing).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        let listing = async move {
            inner.reading().await.map(|pinned| match pinned {
                Some(pinned) => keep_open(pinned.store.list(prefix.as_ref()), pinned),
                None => stream::empty().boxed(),
            })
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.inner.reading().await? {
            Some(pinned) => pinned.store.list_with_delimiter(prefix).await,
            None => Ok(ListResult {
                common_prefixes: Vec::new(),
                objects: Vec::new(),
                extensions: Default::default(),
            }),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let pinned = self.inner.named().await?;
        let done = pinned.store.copy_opts(from, to, options).await?;
        self.inner.still(&pinned).await.map(|()| done)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let pinned = self.inner.named().await?;
        let done = pinned.store.rename_opts(from, to, options).await?;
        self.inner.still(&pinned).await.map(|()| done)
    }
}

/// Returns a stream that keeps its directory open until its end: the system soon reuses the number
/// of a closed descriptor for another file.
fn keep_open<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    pinned: Arc<PinnedDirectory>,
) -> BoxStream<'static, Result<T>> {
    stream::unfold((items, pinned), |(mut items, pinned)| async move {
        let item = items.next().await?;
        Some((item, (items, pinned)))
    })
    .boxed()
}

/// Upload that completes only if the path names the directory in which it began.
#[derive(Debug)]
struct LocalUpload {
    upload: Box<dyn MultipartUpload>,
    pinned: Arc<PinnedDirectory>,
    held: LocalStore,
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.held.inner.still(&self.pinned).await?;
        let done = self.upload.complete().await?;
        self.held.inner.still(&self.pinned).await?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::ObjectStoreExt;

    use super::*;

    /// Two first accesses at the same time both open the directory, and the store keeps only one of
    /// the two.
    #[tokio::test(flavor = "multi_thread")]
    async fn listing_reads_its_directory_after_its_descriptor_is_reused() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(dir.path().join("needs")).unwrap();
        std::fs::create_dir(other.path().join("needs")).unwrap();
        std::fs::write(dir.path().join("needs/1"), "").unwrap();
        std::fs::write(other.path().join("needs/2"), "").unwrap();
        let held = LocalStore::new(dir.path().to_owned(), Host::system());
        held.put(&Path::from("needs/3"), "x".into()).await.unwrap();
        let pinned = held.inner.reading().await.unwrap().unwrap();
        let listing = keep_open(pinned.store.list(Some(&Path::from("needs"))), pinned);
        held.inner.keep(None, None);
        // If the descriptor was closed, one of these files has its number now.
        let taken: Vec<_> = (0..64).map(|_| std::fs::File::open(other.path()).unwrap()).collect();
        let found: Vec<ObjectMeta> = listing.try_collect().await.unwrap();
        let mut names: Vec<_> = found.iter().map(|meta| meta.location.filename().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["1", "3"]);
        drop(taken);
    }
}
