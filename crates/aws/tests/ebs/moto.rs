//! Checks the SDK's wire format against moto, an independent implementation of AWS's model.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, Filter, InstanceType, ResourceType, Tag, TagSpecification,
};
use backstop_aws::client::AwsClient;
use backstop_aws::ebs::{EbsCatalog, EbsProvider, EbsSnapshotSource, GTID_TAG, PROVEN, STATE_TAG};
use backstop_engine::ports::{SnapshotData, SnapshotProvider, VolumeSnapshots};
use backstop_testkit::snapshot_conformance::{
    assert_commits, assert_exact_when_read, assert_refuses, new_run_id, test_context,
};
use backstop_testkit::{ShardLayout, TestShard, ec2};
use backstop_types::backup::VolumeState;
use backstop_types::freeze::{FreezeMode, FreezeSetting, OnPrimary};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{at, aws, opened, site, timeouts};

const REGION: &str = "eu-west-1";

/// A moto server of one test.
pub struct Moto {
    child: Child,
    /// Its address.
    pub url: String,
}

impl Moto {
    /// Starts a server, on another port if its port was taken in between.
    pub async fn start() -> Self {
        let program = std::env::var_os("BACKSTOP_TEST_MOTO").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.cache/venv/bin/moto_server")
        });
        for _ in 0..5 {
            let port = backstop_testkit::member::free_port();
            let child = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error} (run testing/install test)", program.display()));
            let mut moto = Self { child, url: format!("http://127.0.0.1:{port}") };
            if moto.answers(port).await {
                return moto;
            }
        }
        panic!("moto does not start");
    }

    async fn answers(&mut self, port: u16) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(120)
            && self.child.try_wait().is_ok_and(|end| end.is_none())
        {
            if asked(port).await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    pub async fn aws(&self) -> AwsClient {
        aws(&self.url, REGION).await
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the beginning of the answer at a port, if it speaks HTTP.
async fn asked(port: u16) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream
        .write_all(b"GET /moto-api/data.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .ok()?;
    let mut answer = vec![0; 16];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await;
    read.ok()?.ok()?;
    String::from_utf8(answer).ok()
}

/// Creates an instance with a root volume and these devices, tagged as the host of a server.
async fn instance(client: &Client, server: &str, devices: &[&str]) -> String {
    let tag = Tag::builder().key("MySQL-Host").value(server).build();
    let tags = TagSpecification::builder().resource_type(ResourceType::Instance).tags(tag).build();
    let device = |name: &&str| {
        let ebs = EbsBlockDevice::builder().volume_size(10).build();
        BlockDeviceMapping::builder().device_name(*name).ebs(ebs).build()
    };
    let started = client
        .run_instances()
        .image_id("ami-12345678")
        .instance_type(InstanceType::T3Micro)
        .min_count(1)
        .max_count(1)
        .tag_specifications(tags)
        .set_block_device_mappings(Some(devices.iter().map(device).collect()))
        .send()
        .await
        .unwrap();
    started.instances()[0].instance_id().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_tagged_listed_and_deleted() {
    let (shard, moto) = (TestShard::start(ShardLayout::single()).await, Moto::start().await);
    let aws = moto.aws().await;
    let client = Client::new(aws.config());
    let server = shard.primary().endpoint().to_string();
    instance(&client, &server, &["/dev/sda1", "/dev/sdf"]).await;
    let ebs = EbsProvider::new(site(&shard, aws.clone()));
    let taken = ebs.take(&new_run_id()).await.unwrap();
    let SnapshotData::Volumes(volumes) = ebs.open(&taken.snapshot).await.unwrap() else { panic!() };
    assert_eq!((volumes.region.as_str(), volumes.bytes), (REGION, 10 << 30));

    let ours = Filter::builder().name("tag:Backstop-Run").values(taken.snapshot.run.as_str()).build();
    let told = client.describe_snapshots().filters(ours).send().await.unwrap();
    let [told] = told.snapshots() else { panic!("{told:?}") };
    assert_eq!(told.snapshot_id(), Some(volumes.snapshot_ids[0].as_str()));
    let tag = |key: &str| {
        told.tags().iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value).unwrap_or_default()
    };
    assert_eq!(tag(GTID_TAG), taken.position.gtid_executed.to_string());
    assert_eq!(tag(STATE_TAG), PROVEN);

    assert_eq!(ebs.complete(&taken.snapshot).await.unwrap(), VolumeState::Completed);
    let catalog = EbsCatalog::new(aws, timeouts(), test_context());
    let tagged = catalog.tagged(&"orders".parse().unwrap()).await.unwrap();
    assert_eq!(tagged[0].ebs.snapshot_ids, volumes.snapshot_ids);
    ebs.release(&taken.snapshot).await.unwrap();
    ebs.release(&taken.snapshot).await.unwrap();
    assert_eq!(ebs.list().await.unwrap(), []);
    assert_eq!(catalog.state(&volumes.snapshot_ids, REGION).await.unwrap(), VolumeState::Missing);
}

/// Runs the conformance suite of snapshot providers. moto keeps no data: the volume is copied under
/// the lock, just before the call to moto.
#[tokio::test(flavor = "multi_thread")]
async fn moto_snapshot_passes_the_conformance_suite() {
    let (shard, moto) = (TestShard::start(ShardLayout::single()).await, Moto::start().await);
    let aws = moto.aws().await;
    let server = shard.primary().endpoint().to_string();
    instance(&Client::new(aws.config()), &server, &["/dev/sda1", "/dev/sdf"]).await;
    let (data, volume) = (shard.base().join("m1/data"), shard.base().join("volume"));
    let copied = volume.clone();
    let ctx = at("after:freeze", move || ec2::copy(&data, &copied));
    let ebs = EbsProvider::new(EbsSnapshotSource { ctx, ..site(&shard, aws.clone()) });
    let taken = assert_exact_when_read(&shard, shard.primary(), &ebs, |_| opened(volume.clone())).await;
    assert_eq!(taken.freeze.mode, FreezeMode::Lock);

    let so = |change: fn(&mut EbsSnapshotSource)| {
        let mut site = site(&shard, aws.clone());
        change(&mut site);
        EbsProvider::new(site)
    };
    let no_lock = so(|site| site.freeze.mode = FreezeSetting::LockFree);
    assert_refuses(&shard, &no_lock, "freeze without a lock").await;
    assert_refuses(&shard, &so(|site| site.freeze.on_primary = OnPrimary::Refuse), "freeze.on_primary").await;
    assert_refuses(&shard, &so(|site| site.place.volume = None), "nothing identifies which volume").await;
}

/// moto snapshots volumes that the request excludes, which the provider detects and undoes.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_unrequested_volumes_are_deleted() {
    let (shard, moto) = (TestShard::start(ShardLayout::single()).await, Moto::start().await);
    let aws = moto.aws().await;
    let server = shard.primary().endpoint().to_string();
    instance(&Client::new(aws.config()), &server, &["/dev/sda1", "/dev/sdf", "/dev/sdg"]).await;
    let ebs = EbsProvider::new(site(&shard, aws));
    let error = ebs.take(&new_run_id()).await.unwrap_err();
    assert!(error.message.contains("EC2 took") && error.message.contains("was deleted"), "{error}");
    assert_eq!(ebs.list().await.unwrap(), []);
    assert_commits(shard.primary()).await;
}
