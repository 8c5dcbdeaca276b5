//! Requirements of a repository on its store, tested on each supported kind: a directory and a real
//! S3 server. `make test` starts one; without it these tests fail unless
//! `BACKSTOP_TEST_WITHOUT_S3=1` declares its absence intended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use backstop_host::Host;
use backstop_repo::{Location, RepoKey, Repository, VerifyDepth};
use backstop_types::error::ErrorKind;
use chrono::DateTime;

use support::{Bench, Sample, facts, next_id, noise, s3, shard};

async fn stores_and_restores(location: &Location, key: Option<RepoKey>) {
    let bench = Bench {
        repository: Repository::open(location, key.as_ref(), Host::system()).await.unwrap(),
        dir: None,
    };
    assert!(bench.repository.shards().await.unwrap().is_empty());
    assert!(bench.reader().catalog().await.unwrap().is_empty());

    let sample = Sample::new();
    // Larger than a pack, so that several packs are uploaded in parallel.
    sample.write("big.ibd", &noise(1, 20 << 20));
    sample.write("db/small", b"small");
    let first = bench.backup(&sample, None).await;
    let before = sample.snapshot();
    sample.patch("big.ibd", 5 << 20, &noise(2, 100_000));
    let parent = bench.reader().manifest(&first.facts.backup_id).await.unwrap();
    let second = bench.backup(&sample, Some(&parent)).await;
    assert!(second.sizes.stored_bytes < 300_000, "{:?}", second.sizes);

    // Another process opens it.
    let bench = Bench {
        repository: Repository::open(location, key.as_ref(), Host::system()).await.unwrap(),
        dir: None,
    };
    assert_eq!(bench.repository.shards().await.unwrap(), [shard()]);
    assert_eq!(bench.reader().catalog().await.unwrap(), [first.clone(), second.clone()]);
    assert!(bench.restored(&first.facts.backup_id).await == before);
    assert!(bench.restored(&second.facts.backup_id).await == sample.snapshot());
    let report = bench.reader().verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    assert!(report.damaged.is_empty() && report.unreferenced == 0, "{report:?}");
    assert_eq!(report.sound().len(), 2);

    deletes(&bench, &first.facts.backup_id, &second.facts.backup_id, &sample).await;
}

async fn deletes(
    bench: &Bench,
    first: &backstop_types::ids::BackupId,
    second: &backstop_types::ids::BackupId,
    sample: &Sample,
) {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let mut writer = bench.acquire_lease().await;
    writer.condemn(std::slice::from_ref(first), now).await.unwrap();
    let plan = writer.gc_plan(now, std::time::Duration::ZERO).await.unwrap();
    assert!(plan.bytes() > 0);
    writer.sweep(plan).await.unwrap();
    writer.release().await.unwrap();
    assert!(bench.restored(second).await == sample.snapshot());
    let report = bench.reader().verify(VerifyDepth::Content, &|_| {}).await.unwrap();
    assert!(report.damaged.is_empty() && report.unreferenced == 0, "{report:?}");
    let error = bench.reader().manifest(first).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotRecoverable);
}

/// Starts two writers on one shard: only one of them can commit.
async fn keeps_conditions(location: &Location) {
    let one = Repository::open(location, None, Host::system()).await.unwrap();
    let other = Repository::open(location, None, Host::system()).await.unwrap();
    let mut writer = one.acquire_lease(&shard(), "backup").await.unwrap();
    assert_eq!(other.acquire_lease(&shard(), "backup").await.err().unwrap().kind, ErrorKind::Held);
    let sample = Sample::new();
    sample.write("a", b"a");
    let stored = writer.store(&sample.tree(), None, &|_| {}).await.unwrap();
    writer.commit(facts(next_id()), stored).await.unwrap();
    writer.release().await.unwrap();
    other.acquire_lease(&shard(), "backup").await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_stores_and_restores_backups() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("not yet/there # %41");
    stores_and_restores(&support::location(&place), None).await;
    assert!(place.join("backstop").is_file(), "the repository is somewhere else");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&place).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700, "others could read the backups");
    let dir = tempfile::tempdir().unwrap();
    stores_and_restores(&support::location(dir.path()), Some(support::key(7))).await;
    let dir = tempfile::tempdir().unwrap();
    keeps_conditions(&support::location(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_directory_is_refused() {
    if !rustix::process::geteuid().is_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
        let repository =
            Repository::open(&support::location(dir.path()), None, Host::system()).await.unwrap();
        assert_eq!(repository.acquire_lease(&shard(), "backup").await.err().unwrap().kind, ErrorKind::Denied);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = match Repository::open(&support::location(file.path()), None, Host::system()).await {
        Err(error) => error,
        Ok(repository) => repository.acquire_lease(&shard(), "backup").await.err().unwrap(),
    };
    assert_eq!(error.kind, ErrorKind::Store, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_server_stores_and_restores_backups() {
    let Some(server) = s3() else { return };
    stores_and_restores(&server.location("plain"), None).await;
    stores_and_restores(&server.location("encrypted"), Some(support::key(7))).await;
    keeps_conditions(&server.location("conditions")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_s3_bucket_is_a_store_error() {
    let Some(server) = s3() else { return };
    let mut location = server.location("x");
    location.url = "s3://no-such-bucket-here/x".into();
    let error = reach(&location).await;
    assert_eq!((error.kind, error.kind.exit_code()), (ErrorKind::Store, 10), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_s3_credentials_are_denied() {
    let Some(server) = s3() else { return };
    let mut location = server.location("x");
    location.s3.secret_access_key = Some("wrong".to_owned().into());
    let error = reach(&location).await;
    assert_eq!((error.kind, error.kind.exit_code()), (ErrorKind::Denied, 12), "{error}");
    assert!(!format!("{error:?}").contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_s3_endpoint_is_a_store_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut location = Location::new("s3://bucket/x");
    location.s3.endpoint = Some(format!("http://127.0.0.1:{port}"));
    location.s3.region = Some("us-east-1".into());
    location.s3.access_key_id = Some("id".into());
    location.s3.secret_access_key = Some("secret".to_owned().into());
    let error = reach(&location).await;
    assert_eq!((error.kind, error.kind.exit_code()), (ErrorKind::Store, 10), "{error}");
}

/// Returns the error of opening a repository, or else of acquiring a lease in it.
async fn reach(location: &Location) -> backstop_types::error::Error {
    match Repository::open(location, None, Host::system()).await {
        Err(error) => error,
        Ok(repository) => repository.acquire_lease(&shard(), "backup").await.err().unwrap(),
    }
}
