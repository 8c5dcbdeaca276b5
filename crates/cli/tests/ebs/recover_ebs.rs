//! A whole recovery: a backup in EBS snapshots, an instance that real Terraform creates at a fake
//! of AWS, and a server on it that real Ansible joins to the shard.

use std::path::PathBuf;
use std::time::Duration;

use backstop_testkit::aws_stack::{AwsStack, REGION, assert_joined};
use backstop_testkit::member::free_port;
use backstop_testkit::workload::WrittenRows;
use backstop_testkit::{ShardLayout, TestShard, TestWorkload, tables};
use rustix::process::Signal;

use crate::support::program::{Backstop, until};

/// Limit for every start and every step of these tests, even on a busy machine.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(170);

/// A shard of two whose second member is on an instance with a volume, and the tools that recover
/// it.
struct Fleet {
    /// Dropped first: the server runs on a device of this stack.
    cloud: AwsStack,
    shard: TestShard,
    backstop: Backstop,
    /// Folder of the recovered server.
    host: PathBuf,
    port: u16,
}

impl Fleet {
    /// Starts the fleet. Returns `None`, after a message, if Terraform is missing (no package
    /// client has it) or if the user is not root; the test ends then.
    async fn start() -> Option<Self> {
        let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
        let cloud = AwsStack::start(&shard).await?;
        let mut backstop = Backstop::of(&shard, "ebs").await;
        backstop.environment = cloud.environment();
        backstop.environment.extend([
            ("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_REGION", REGION.to_owned()),
            ("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_VOLUME_DEVICE", "/dev/sdf".to_owned()),
            // The copy that represents a snapshot takes longer than EC2's answer.
            ("BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD", "60s".to_owned()),
        ]);
        let fleet = Self { host: shard.base().join("host"), port: free_port(), cloud, shard, backstop };
        std::fs::create_dir_all(&fleet.host).unwrap();
        fleet.configure(str::to_owned).await;
        Some(fleet)
    }

    /// Writes the settings for recovered instances; `subnet_of` maps each zone to the zone whose
    /// subnet it gets.
    async fn configure(&self, subnet_of: impl Fn(&str) -> String) {
        let text = std::fs::read_to_string(&self.backstop.config).unwrap();
        let text = text.split("[shards.orders.recovery]").next().unwrap();
        let recovery = self.cloud.recovery("orders", &self.host, self.port, subnet_of).await;
        std::fs::write(&self.backstop.config, format!("{text}{recovery}")).unwrap();
    }

    fn line(&self, into: &str) -> String {
        format!("recover orders --to latest --join --into {}", self.shard.base().join(into).display())
    }

    /// Checks that the recovered server holds everything the primary holds, and every acknowledged
    /// row.
    async fn equals(&self, written: &WrittenRows) {
        assert_joined(&self.host.join("mysqld.sock"), self.shard.primary(), written).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recover_makes_an_instance_that_joins_despite_kills() {
    let Some(fleet) = Fleet::start().await else { return };
    tables::fill(fleet.shard.primary(), 2, 500).await;
    let workload = TestWorkload::start(fleet.shard.primary()).await;
    workload.wait_for_more(50).await;
    let backup = fleet.backstop.json("backup orders").await;
    workload.wait_for_more(50).await;
    let written = workload.stop().await;

    let line = fleet.line("recovery");
    let plan = fleet.backstop.json(&format!("{line} --plan")).await;
    assert_eq!(
        (&plan["zone"], &plan["terraform"]["destroy"]),
        (&"eu-central-1b".into(), &0.into()),
        "{plan}"
    );
    assert!(
        !fleet.shard.base().join("recovery").exists()
            && fleet.cloud.left()["volumes"] == serde_json::json!([])
    );

    for point in ["before:decide", "after:decide", "before:apply"] {
        fleet.backstop.killed(&line, point).await;
    }
    // The kill hits while Terraform works, which continues by itself and holds its state.
    let running = fleet.backstop.spawn(&line, None);
    until(COMMAND_TIMEOUT, || running.told(), || running.told().contains("Creating...")).await;
    running.signal(Signal::KILL);
    running.end().await;
    for point in [
        "after:apply",
        "before:configure",
        "after:configure",
        "after:joined",
        "before:protect",
        "after:protect",
        "before:hand_over",
    ] {
        fleet.backstop.killed(&line, point).await;
    }
    let report = fleet.backstop.json(&line).await;
    assert_eq!((&report["joined"], &report["backup_id"]), (&true.into(), &backup["backup_id"]), "{report}");
    assert_eq!(report["server"]["port"], fleet.port);
    fleet.equals(&written).await;

    let left = fleet.cloud.left();
    assert_eq!(
        left["instances"],
        serde_json::json!([report["instance"]["instance_id"]]),
        "one instance in spite of the kills"
    );
    assert_eq!(
        (&left["protected"], &left["zones"]),
        (&serde_json::json!([true]), &serde_json::json!(["eu-central-1b"]))
    );
    assert_eq!(left["volumes"], report["instance"]["volume_ids"]);
    let folder = fleet.shard.base().join("recovery/.backstop");
    assert!(!folder.join("secrets.yml").exists(), "secrets do not stay");
    for file in
        ["journal", "ansible.log", "variables.yml", "inventory.yml", "terraform.log", "recovery.tfvars.json"]
    {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(!text.contains(fleet.shard.password()), "{file} holds a password");
    }
    assert_eq!(
        fleet.backstop.json(&line).await["instance"],
        report["instance"],
        "a repeated command reports the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recover_leaves_no_instance_after_failure_or_refusal() {
    let Some(fleet) = Fleet::start().await else { return };
    fleet.backstop.json("backup orders").await;
    let nothing = || {
        let left = fleet.cloud.left();
        assert_eq!(
            (&left["instances"], &left["volumes"]),
            (&serde_json::json!([]), &serde_json::json!([])),
            "{left}"
        );
    };
    let alone = fleet.line("alone").replace("--join", "--standalone");
    fleet.backstop.run(&alone).await.failed(20, &["recovery.configuration"]);
    fleet.backstop.run(&format!("{} --port 3399", fleet.line("port"))).await.failed(20, &["--port"]);
    // The configuration gives zone b the subnet of zone a: Terraform creates a volume before it
    // finds the fault, if it finds it.
    fleet.configure(|_| "eu-central-1a".to_owned()).await;
    fleet.backstop.run(&fleet.line("wrong")).await.failed(20, &["is in eu-central-1a, not in eu-central-1b"]);
    nothing();
    // With a correct configuration, the same command in another directory continues.
    std::fs::write(fleet.shard.base().join("precious"), "x").unwrap();
    fleet.backstop.run(&fleet.line("")).await.failed(20, &["is not empty"]);
    nothing();
}
