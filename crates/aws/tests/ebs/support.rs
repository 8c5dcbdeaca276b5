//! A server on a host that EC2's stand-in knows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::config::Credentials;
use backstop_adapters::mysql::connect::Connector;
use backstop_aws::connect::Aws;
use backstop_aws::ebs::{Ebs, EbsSite, Waits};
use backstop_engine::contents::{LogFiles, ServerFiles};
use backstop_engine::ports::{Image, Opened, Snapshots};
use backstop_engine::world::World;
use backstop_model::fault::Fault;
use backstop_model::freeze::FreezeRules;
use backstop_model::settings::VolumeHint;
use backstop_model::topology::Role;
use backstop_testkit::ec2::{FakeEc2, Rules};
use backstop_testkit::snapshots::{commits, run, world};
use backstop_testkit::{Layout, Member, Shard};

pub const REGION: &str = "eu-test-1";

/// A shard whose primary runs on `i-1`, with its data directory on `/dev/sdf`.
pub struct Host {
    pub shard: Shard,
    pub ec2: Arc<FakeEc2>,
}

impl Host {
    pub async fn start(layout: Layout) -> Self {
        let shard = Shard::start(layout).await;
        let ec2 = FakeEc2::start(0, &shard.base().join("images")).await;
        let host = Self { shard, ec2: Arc::new(ec2) };
        host.knows("i-1", host.shard.primary(), 1);
        host
    }

    /// Makes a member the server of an instance. Members live in `m1`, `m2`, ….
    pub fn knows(&self, instance: &str, member: &Member, number: usize) {
        let folder = self.shard.base().join(format!("m{number}")).join("data");
        let endpoint = member.endpoint().to_string();
        self.ec2.with(|ec2| {
            ec2.add_mysql_host(instance, &endpoint, Some(folder));
        });
    }

    pub async fn site(&self) -> EbsSite {
        site(&self.shard, aws(&self.ec2.url, REGION).await)
    }

    pub async fn ebs(&self) -> Ebs {
        Ebs::new(self.site().await)
    }

    /// What stands in for the volume that would be made from a snapshot.
    pub fn volume(&self, image: Image) -> Opened {
        let Image::Volumes(volumes) = image else { panic!("{image:?}") };
        assert_eq!(volumes.region, REGION);
        let [id] = &volumes.snapshot_ids[..] else { panic!("{volumes:?}") };
        opened(self.ec2.image(id).expect("an image"))
    }

    /// The attempt fails and no lock is left.
    pub async fn fails(&self, ebs: &Ebs) -> Fault {
        let fault = ebs.take(&run()).await.expect_err("a fault");
        commits(self.shard.primary()).await;
        fault
    }

    /// Snapshots of the host, with EC2 changed at a point of the story.
    pub async fn ebs_when(
        &self,
        point: &'static str,
        change: impl Fn(&mut Rules) + Send + Sync + 'static,
    ) -> Ebs {
        let ec2 = Arc::clone(&self.ec2);
        let world = at(point, move || ec2.with(|ec2| change(&mut ec2.rules)));
        Ebs::new(EbsSite { world, ..self.site().await })
    }

    pub fn snapshots(&self) -> Vec<String> {
        self.ec2.with(|ec2| ec2.ids())
    }
}

pub fn opened(root: PathBuf) -> Opened {
    let binlogs = LogFiles { base: root.join("binlog"), index: root.join("binlog.index") };
    let files = ServerFiles { binlogs: Some(binlogs), ..ServerFiles::default() };
    Opened { root, files }
}

pub fn site(shard: &Shard, aws: Aws) -> EbsSite {
    EbsSite {
        aws,
        connector: Connector::new(&shard.credentials()),
        endpoint: shard.primary().endpoint(),
        role: Role::Primary,
        freeze: rules(),
        shard: "orders".parse().unwrap(),
        cluster: "orders-eu".to_owned(),
        volume: Some(VolumeHint::device("/dev/sdf").unwrap()),
        waits: waits(),
        world: world(),
    }
}

/// The copy that stands in for a snapshot takes longer than EC2's answer.
pub fn rules() -> FreezeRules {
    FreezeRules { hold: Duration::from_secs(60), wait: Duration::from_secs(60), ..FreezeRules::default() }
}

pub fn waits() -> Waits {
    Waits {
        complete: Duration::from_secs(60),
        look: Duration::from_millis(20),
        listed: Duration::from_secs(2),
        relist: Duration::from_millis(20),
        dead: Duration::from_secs(300),
    }
}

pub async fn aws(url: &str, region: &'static str) -> Aws {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(credentials)
        .endpoint_url(url)
        .load()
        .await;
    Aws::with(config).unwrap()
}

/// A world in which something happens at a point.
pub fn at(point: &'static str, act: impl Fn() + Send + Sync + 'static) -> World {
    World { faults: Arc::new(backstop_testkit::snapshots::At::new(point, act)), ..world() }
}
