//! A server on a host that the double of EC2 contains.

pub mod misbehaving;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::config::Credentials;
use backstop_adapters::mysql::connection::Connector;
use backstop_aws::client::AwsClient;
use backstop_aws::ebs::{EbsPlace, EbsProvider, EbsSnapshotSource, Timeouts};
use backstop_config::settings::VolumeHint;
use backstop_engine::context::RunContext;
use backstop_engine::datadir_files::{LogFiles, ServerFiles};
use backstop_engine::ports::{SnapshotData, SnapshotDir, SnapshotProvider};
use backstop_testkit::ec2::{Ec2Behaviour, FakeEc2};
use backstop_testkit::snapshot_conformance::{assert_commits, new_run_id, test_context};
use backstop_testkit::{ShardLayout, TestMember, TestShard};
use backstop_types::error::Error;
use backstop_types::freeze::FreezeRules;
use backstop_types::topology::Role;

pub const REGION: &str = "eu-test-1";

/// A shard whose primary runs on `i-1`, with its data directory on `/dev/sdf`.
pub struct Host {
    pub shard: TestShard,
    pub ec2: Arc<FakeEc2>,
}

impl Host {
    pub async fn start(layout: ShardLayout) -> Self {
        let shard = TestShard::start(layout).await;
        let ec2 = FakeEc2::start(0, &shard.base().join("images")).await;
        let host = Self { shard, ec2: Arc::new(ec2) };
        host.knows("i-1", host.shard.primary(), 1);
        host
    }

    /// Makes a member the server of an instance. Members live in `m1`, `m2`, ….
    pub fn knows(&self, instance: &str, member: &TestMember, number: usize) {
        let folder = self.shard.base().join(format!("m{number}")).join("data");
        let endpoint = member.endpoint().to_string();
        self.ec2.with(|ec2| {
            ec2.add_mysql_host(instance, &endpoint, Some(folder));
        });
    }

    pub async fn site(&self) -> EbsSnapshotSource {
        site(&self.shard, aws(&self.ec2.url, REGION).await)
    }

    pub async fn ebs(&self) -> EbsProvider {
        EbsProvider::new(self.site().await)
    }

    /// Returns the data that a volume made from a snapshot would hold.
    pub fn volume(&self, image: SnapshotData) -> SnapshotDir {
        let SnapshotData::Volumes(volumes) = image else { panic!("{image:?}") };
        assert_eq!(volumes.region, REGION);
        let [id] = &volumes.snapshot_ids[..] else { panic!("{volumes:?}") };
        opened(self.ec2.image(id).expect("an image"))
    }

    /// Asserts that the attempt fails and that no lock is left.
    pub async fn fails(&self, ebs: &EbsProvider) -> Error {
        let error = ebs.take(&new_run_id()).await.expect_err("a fault");
        assert_commits(self.shard.primary()).await;
        error
    }

    /// Returns a snapshot provider of the host, with EC2 changed at a point of the story.
    pub async fn ebs_when(
        &self,
        point: &'static str,
        change: impl Fn(&mut Ec2Behaviour) + Send + Sync + 'static,
    ) -> EbsProvider {
        let ctx = self.ebs_ctx(point, change);
        EbsProvider::new(EbsSnapshotSource { ctx, ..self.site().await })
    }

    /// Returns a context that changes EC2 at a point of the story.
    pub fn ebs_ctx(
        &self,
        point: &'static str,
        change: impl Fn(&mut Ec2Behaviour) + Send + Sync + 'static,
    ) -> RunContext {
        let ec2 = Arc::clone(&self.ec2);
        at(point, move || ec2.with(|ec2| change(&mut ec2.rules)))
    }

    pub fn snapshots(&self) -> Vec<String> {
        self.ec2.with(|ec2| ec2.ids())
    }
}

pub fn opened(root: PathBuf) -> SnapshotDir {
    let binlogs = LogFiles { base: root.join("binlog"), index: root.join("binlog.index") };
    let files = ServerFiles { binlogs: Some(binlogs), ..ServerFiles::default() };
    SnapshotDir { root, files }
}

pub fn site(shard: &TestShard, aws: AwsClient) -> EbsSnapshotSource {
    EbsSnapshotSource {
        connector: Connector::new(&shard.credentials()),
        endpoint: shard.primary().endpoint(),
        role: Role::Primary,
        freeze: rules(),
        ctx: test_context(),
        place: place(aws),
    }
}

pub fn place(aws: AwsClient) -> EbsPlace {
    EbsPlace {
        repository: "s3://backups/shards".to_owned(),
        secret: None,
        extra_tags: Default::default(),
        aws,
        shard: "orders".parse().unwrap(),
        cluster: "orders-eu".to_owned(),
        volume: Some(VolumeHint::device("/dev/sdf").unwrap()),
        timeouts: timeouts(),
    }
}

/// Freeze rules with a longer limit: the copy that serves as a snapshot takes longer than EC2's
/// answer.
pub fn rules() -> FreezeRules {
    FreezeRules { hold: Duration::from_secs(60), wait: Duration::from_secs(60), ..FreezeRules::default() }
}

pub fn timeouts() -> Timeouts {
    Timeouts {
        complete: Duration::from_secs(60),
        poll: Duration::from_millis(20),
        listed: Duration::from_secs(2),
        list_poll: Duration::from_millis(20),
        dead_after: Duration::from_secs(300),
        last_freeze: None,
        throttled: Duration::from_millis(20),
    }
}

pub async fn aws(url: &str, region: &'static str) -> AwsClient {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(credentials)
        .endpoint_url(url)
        .load()
        .await;
    AwsClient::with(config).unwrap()
}

/// Returns a context that runs `act` at a failpoint.
pub fn at(point: &'static str, act: impl Fn() + Send + Sync + 'static) -> RunContext {
    RunContext {
        failpoints: Arc::new(backstop_testkit::snapshot_conformance::AtFailpoint::new(point, act)),
        ..test_context()
    }
}
