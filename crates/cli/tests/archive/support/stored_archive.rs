//! Contents of an archive, read by the library that recoveries use.

use std::collections::BTreeMap;

use backstop_host::Host;
use backstop_repo::{ArchiveReader, Location, RepoKey, Repository};
use backstop_testkit::TestMember;
use backstop_types::archive::{Archive, ArchivedSegment};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use tokio::io::AsyncReadExt;

use crate::support::program::Backstop;

/// Arguments of every archiver here.
pub const ARCHIVE: &str = "archive orders --set shards.orders.archive.from=primary";

/// Opens the archive of the shard `orders`.
pub async fn reader(backstop: &Backstop) -> ArchiveReader {
    let file = || Location::new(format!("file://{}", backstop.repository.display()));
    // The archiver may not have created the repository yet.
    let location = backstop.bucket.clone().unwrap_or_else(file).or_new();
    let key = backstop.key.as_ref().map(|key| RepoKey::parse(&key.clone().into()).unwrap());
    let repository = Repository::open(&location, key.as_ref(), Host::system()).await.unwrap();
    repository.archive(&"orders".parse().unwrap())
}

/// Reads the archive.
pub async fn contents(backstop: &Backstop) -> Archive {
    let archive = reader(backstop).await.contents().await.unwrap();
    assert!(archive.damaged.is_empty(), "{:?}", archive.damaged);
    archive
}

/// Returns every transaction of the current line.
pub async fn held(backstop: &Backstop) -> GtidSet {
    let archive = contents(backstop).await;
    let Some(timeline) = archive.current() else { return GtidSet::new() };
    archive.held(timeline.number).unwrap_or_default()
}

/// Returns each file of a server, joined from its segments in order.
pub async fn files(backstop: &Backstop, of: ServerUuid) -> BTreeMap<String, Vec<u8>> {
    let reader = reader(backstop).await;
    let archive = reader.contents().await.unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for segment in archive.segments.iter().filter(|segment| segment.source == of) {
        let file = files.entry(segment.file.clone()).or_default();
        assert_eq!(segment.start, file.len() as u64, "the pieces do not fit: {}", segment.name());
        file.extend(bytes(&reader, segment).await);
    }
    files
}

async fn bytes(reader: &ArchiveReader, segment: &ArchivedSegment) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.open(segment).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    assert_eq!(segment.size(), bytes.len() as u64);
    bytes
}

/// Checks that every archived file of a server is identical with the file that the server sends;
/// the last one may be longer there. Returns the names.
pub async fn assert_identical(backstop: &Backstop, member: &TestMember) -> Vec<String> {
    let of = uuid(member).await;
    let files = files(backstop, of).await;
    assert!(!files.is_empty(), "nothing of {of} is archived");
    let newest = files.keys().last().cloned().unwrap();
    for (name, bytes) in &files {
        let own = member.binlog_as_sent(name, bytes);
        let whole = *name != newest;
        assert!(own.starts_with(bytes), "{name}: {} archived bytes of {}", bytes.len(), own.len());
        assert!(
            !whole || own.len() == bytes.len(),
            "{name}: {} archived bytes of {}",
            bytes.len(),
            own.len()
        );
    }
    files.into_keys().collect()
}

pub async fn uuid(member: &TestMember) -> ServerUuid {
    member.value("SELECT @@GLOBAL.server_uuid").await.parse().unwrap()
}
