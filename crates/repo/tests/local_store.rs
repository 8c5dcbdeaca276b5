//! Repository in a directory that is unmounted or replaced: Backstop neither writes to another
//! directory at the path nor reports success there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use backstop_host::Host;
use backstop_repo::{Location, Repository};
use backstop_types::error::ErrorKind;

use support::binlog::{file, make_segment, tail};
use support::{Sample, facts, next_id, scratch, shard, tree_of};

/// Repository in a directory that can be moved away.
struct StoreDirectory {
    _dir: tempfile::TempDir,
    path: PathBuf,
    away: PathBuf,
}

impl StoreDirectory {
    fn new() -> Self {
        let dir = scratch();
        let (path, away) = (dir.path().join("mounted"), dir.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        Self { _dir: dir, path, away }
    }

    fn location(&self) -> Location {
        support::location(&self.path)
    }

    async fn init(&self) -> Repository {
        let (repository, made) = Repository::init(&self.location(), None, Host::system()).await.unwrap();
        assert!(made);
        repository
    }

    /// Removes the volume; its empty mount point stays.
    fn unmount(&self) {
        std::fs::rename(&self.path, &self.away).unwrap();
        std::fs::create_dir(&self.path).unwrap();
    }

    fn mount(&self) {
        std::fs::remove_dir_all(&self.path).unwrap();
        std::fs::rename(&self.away, &self.path).unwrap();
    }
}

fn nothing_in(dir: &Path) {
    assert!(tree_of(dir).is_empty(), "{:?}", tree_of(dir).keys());
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "not even a directory is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_is_not_written_while_its_volume_is_unmounted() {
    let place = StoreDirectory::new();
    let repository = place.init().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    tail(&writer, 1, 2, 1000).await;

    place.unmount();
    let (segment, bytes) = make_segment(3, 3, 1000);
    for _ in 0..2 {
        let error = writer.put_tail(&segment, &bytes).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Store, "{error}");
        assert!(error.message.contains(place.path.to_str().unwrap()), "{error}");
        assert!(error.hint.unwrap().contains("mount"));
        nothing_in(&place.path);
    }
    place.mount();
    writer.put_tail(&segment, &bytes).await.unwrap();
    tail(&writer, 4, 4, 1000).await;
    writer.release().await.unwrap();
    let reader = Repository::open(&place.location(), None, Host::system()).await.unwrap().archive(&shard());
    assert!(file(&reader).await == make_segment(1, 4, 1000).1);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_not_written_while_its_volume_is_unmounted() {
    let (place, sample) = (StoreDirectory::new(), Sample::in_memory());
    sample.write("db/t.ibd", &support::noise(1, 100_000));
    let repository = place.init().await;
    let mut writer = repository.acquire_lease(&shard(), "backup").await.unwrap();
    let stored = writer.store(&sample.tree(), None, &|_| {}).await.unwrap();
    place.unmount();
    let error = writer.commit(facts(next_id()), stored).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Store, "{error}");
    assert_eq!(repository.acquire_lease(&shard(), "backup").await.err().unwrap().kind, ErrorKind::Store);
    let mut again = place.location();
    again.create = Default::default();
    assert_eq!(
        Repository::open(&again, None, Host::system()).await.err().unwrap().kind,
        ErrorKind::NotRecoverable
    );
    nothing_in(&place.path);
    place.mount();
    let stored = writer.store(&sample.tree(), None, &|_| {}).await.unwrap();
    writer.commit(facts(next_id()), stored).await.unwrap();
}

/// Also if the other repository's directory has the path and the inode number of the open one.
#[tokio::test(flavor = "multi_thread")]
async fn other_repository_at_the_same_path_is_not_written() {
    for in_place in [false, true] {
        let place = StoreDirectory::new();
        let repository = place.init().await;
        let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
        tail(&writer, 1, 1, 1000).await;
        match in_place {
            false => place.unmount(),
            true => {
                for entry in std::fs::read_dir(&place.path).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        std::fs::remove_dir_all(path).unwrap()
                    } else {
                        std::fs::remove_file(path).unwrap()
                    }
                }
            }
        }
        let other = place.init().await;
        let before = tree_of(&place.path);
        let (segment, bytes) = make_segment(2, 2, 1000);
        let error = writer.put_tail(&segment, &bytes).await.unwrap_err();
        let named = [repository.id().unwrap().to_string(), other.id().unwrap().to_string()];
        assert!(named.iter().all(|id| error.message.contains(id)), "{error}");
        assert!(tree_of(&place.path) == before);
    }
}

/// A file system that was mounted again may have another device number.
#[tokio::test(flavor = "multi_thread")]
async fn same_repository_in_a_new_directory_is_used() {
    let place = StoreDirectory::new();
    let repository = place.init().await;
    let writer = repository.acquire_archive_lease(&shard()).await.unwrap();
    tail(&writer, 1, 1, 1000).await;
    place.unmount();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(place.away.join(".")).arg(&place.path).status();
    assert!(copied.unwrap().success());
    tail(&writer, 2, 2, 1000).await;
    let at = |path: &Path| tree_of(path).keys().filter(|key| key.contains("archive/journal")).count();
    assert_eq!((at(&place.path), at(&place.away)), (4, 3));
}
