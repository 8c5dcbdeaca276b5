//! An S3 store that is slow, and for a while does not answer (`testing/s3-server` behind the test's
//! own proxy).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use backstop_testkit::{TestShard, TestWorkload};
use backstop_types::gtid::GtidSet;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::byte_identical::single;
use crate::kill_random::wait_for_archiver;
use crate::support::program::{Backstop, S3, until};
use crate::support::stored_archive::{ARCHIVE, assert_identical, contents, held};

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
/// Delay of every request.
const REQUEST_DELAY: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn slow_store_delays_commits_and_loses_none() {
    let Some(s3) = S3::of_the_tests() else { return };
    let wire = Wire::to(&s3.endpoint).await;
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let mut backstop = Backstop::of(&shard, "clone").await;
    let prefix = shard.base().file_name().unwrap().to_string_lossy();
    backstop.in_bucket(&s3, &prefix, &wire.endpoint);
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(20).await;

    for passes in [ANSWERS, REQUESTS] {
        // Only one direction is open: a put does not arrive, or it arrives and its answer does not.
        let notes = || archiver.told().matches("no answer within").count();
        let before = notes();
        wire.passes.store(passes, Ordering::SeqCst);
        until(WAIT_TIMEOUT, || format!("there is no notice: {}", archiver.told()), || notes() > before).await;
        let stuck = workload.committed();
        wire.passes.store(ANSWERS | REQUESTS, Ordering::SeqCst);
        workload.wait_for_more(20).await;
        assert!(workload.committed() > stuck);
    }
    let written = workload.stop().await;
    // Commits wait for their puts, one after the other.
    let mean = written.gaps.iter().skip(1).sum::<Duration>() / u32::try_from(written.gaps.len()).unwrap();
    assert!(mean >= REQUEST_DELAY, "acknowledged before they can have been stored: every {mean:?}");
    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert_identical(&backstop, primary).await;
    let mut all = GtidSet::new();
    for segment in contents(&backstop).await.segments {
        assert!(all.intersect(&segment.gtids).is_empty(), "twice: {}", segment.name());
        all = all.union(&segment.gtids);
    }
}

const REQUESTS: u8 = 1;
const ANSWERS: u8 = 2;

/// A proxy to the store that is slow, and whose two directions can be cut without a sign.
struct Wire {
    endpoint: String,
    passes: Arc<AtomicU8>,
}

impl Wire {
    async fn to(endpoint: &str) -> Self {
        let store = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let passes = Arc::new(AtomicU8::new(REQUESTS | ANSWERS));
        let all = Arc::clone(&passes);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, to_client) = client.into_split();
                let (from_store, to_store) = TcpStream::connect(&store).await.unwrap().into_split();
                tokio::spawn(pass(from_client, to_store, Arc::clone(&all), REQUESTS));
                tokio::spawn(pass(from_store, to_client, Arc::clone(&all), ANSWERS));
            }
        });
        Self { endpoint, passes }
    }
}

/// Passes on the bytes that arrive, while this direction is open.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    open: Arc<AtomicU8>,
    way: u8,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if way == REQUESTS {
            tokio::time::sleep(REQUEST_DELAY).await;
        }
        while open.load(Ordering::SeqCst) & way == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
