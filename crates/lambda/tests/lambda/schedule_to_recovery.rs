//! The complete path: a schedule invokes the function, which queries orchestrator and snapshots the
//! candidate's two volumes; EBS's event ends the backup; then Terraform creates an instance of it,
//! whose server Ansible joins to the shard; and after the loss of all, another that recovers itself.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use backstop_adapters::mysql::connection::{Connector, Login};
use backstop_testkit::aws_stack::{self, AwsStack, assert_joined};
use backstop_testkit::member::{free_port, kill_server_on};
use backstop_testkit::server_program::server_program;
use backstop_testkit::workload::WrittenRows;
use backstop_testkit::{ShardLayout, TestMember, TestWorkload, tables};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::schedule::Scheduled;
use crate::support::environment::{Environment, REGION};
use crate::support::program::Backstop;

/// Returns an operator's configuration of the shard: orchestrator provides everything else.
fn configured(fleet: &Environment, done: &Scheduled, backstop: &Backstop, recovery: &str) -> String {
    format!(
        "[repository]\nurl = '{url}'\nendpoint = '{s3}'\nregion = '{REGION}'\ncredentials = {{ file = '{login}' }}\n\n[shards.shop-1]\n\
         credentials = {{ file = '{credentials}' }}\n\
         topology = {{ orchestrator = ['{orchestrator}'], cluster = 'shop-1' }}\n\
         snapshot = {{ provider = 'ebs', region = '{region}', work_dir = '{work}' }}\n{recovery}",
        url = done.location.url,
        s3 = done.location.s3.endpoint.as_deref().unwrap(),
        login = bucket_login(done, backstop).display(),
        credentials = backstop.credentials.display(),
        orchestrator = fleet.orchestrator.url(),
        region = aws_stack::REGION,
        work = backstop.work.display(),
    )
}

/// Writes a file with the credentials of the bucket, which differ from those of the account.
fn bucket_login(done: &Scheduled, backstop: &Backstop) -> PathBuf {
    let (path, s3) = (backstop.dir.join("bucket.toml"), &done.location.s3);
    let (id, secret) = (s3.access_key_id.as_deref().unwrap(), s3.secret_access_key.as_ref().unwrap());
    let text = format!("access_key_id = '{id}'\nsecret_access_key = '{}'\n", secret.expose_secret());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

/// A shard whose members have their redo log on a second volume.
async fn start_on_two_volumes() -> Environment {
    Environment::start_with(ShardLayout { members: 2, redo_volume: true, ..ShardLayout::default() }).await
}

/// The backup of two volumes that a schedule made and EBS's event ended, on the way to a recovery.
struct Recovering {
    fleet: Environment,
    cloud: AwsStack,
    backstop: Backstop,
    host: PathBuf,
    port: u16,
}

impl Recovering {
    async fn of(fleet: Environment, cloud: AwsStack, done: &Scheduled) -> Self {
        let mut backstop = Backstop::of(&fleet.shard, "ebs").await;
        let (host, port) = (fleet.shard.base().join("host"), free_port());
        std::fs::create_dir_all(&host).unwrap();
        let on_instance = fleet.shard.base().join("instance.toml");
        let program = format!("[mysql]\nserver = '{}'\n", server_program().await.mysqld.display());
        std::fs::write(&on_instance, configured(&fleet, done, &backstop, &program)).unwrap();
        let recovery = cloud.recovery("shop-1", &host, port, str::to_owned).await;
        let table = "[shards.shop-1.recovery]\n";
        let recovery =
            recovery.replacen(table, &format!("{table}configuration = '{}'\n", on_instance.display()), 1);
        std::fs::write(&backstop.config, configured(&fleet, done, &backstop, &recovery)).unwrap();
        backstop.environment = cloud.environment();
        Self { fleet, cloud, backstop, host, port }
    }

    /// Makes an instance that joins the shard and is listed by orchestrator.
    async fn joined(&self, written: &WrittenRows) {
        let latest = self.backstop.json("backups shop-1 --latest").await;
        let into = self.fleet.shard.base().join("recovery");
        let line = format!(
            "recover shop-1 --to latest --join --into {} --set shards.shop-1.topology.orchestrator_discover=true",
            into.display()
        );
        let report = self.backstop.json(&line).await;
        assert_eq!(
            (&report["joined"], &report["backup_id"]),
            (&true.into(), &latest["backups"][0]["backup_id"]),
            "{report}"
        );
        let listed = report["next"][0].as_str().unwrap();
        assert!(
            listed.starts_with("orchestrator lists the server") && listed.ends_with(&self.port.to_string()),
            "{report}"
        );
        assert_joined(&self.host.join("mysqld.sock"), self.fleet.shard.primary(), written).await;
        let instances = self.cloud.left()["instances"].clone();
        assert!(instances.as_array().unwrap().contains(&report["instance"]["instance_id"]), "{instances}");
    }

    /// Recovers to the moment before a table was dropped, after the loss of the shard: on a new
    /// instance that replays the archive on its volumes.
    async fn recovers_to_a_moment_after_the_loss(&mut self) {
        self.listen_on_another_port();
        let primary = self.fleet.shard.primary();
        let statements = [
            "CREATE DATABASE one",
            "CREATE TABLE one.t (id INT PRIMARY KEY)",
            "INSERT INTO one.t VALUES (1)",
        ];
        primary.run(&statements).await;
        let wanted = primary.gtid_executed().await;
        primary.run(&["DROP TABLE one.t"]).await;
        let archive = "archive shop-1 --set shards.shop-1.archive.from=primary --until-caught-up";
        self.backstop.json(archive).await;
        let found = self.backstop.json("find shop-1 --table one.t --kind ddl").await;
        let dropped = found["transactions"][0]["gtid"].as_str().unwrap();
        let into = self.fleet.shard.base().join("moment");
        let line =
            |ending| format!("recover shop-1 --to before:{dropped} {ending} --into {}", into.display());
        let before = self.cloud.left()["instances"].clone();
        self.backstop
            .run(&line("--as-primary"))
            .await
            .failed(20, &["not all of its members are lost", "--force-as-primary"]);
        assert_eq!(self.cloud.left()["instances"], before, "no instance is made for what is refused");

        self.loses_all_servers();
        let line = line("--standalone");
        self.backstop.killed(&line, "after:configure").await;
        let report = self.backstop.json(&line).await;
        assert_eq!(
            (&report["joined"], &report["gtid_executed"]),
            (&false.into(), &wanted.to_string().into()),
            "{report}"
        );
        assert_eq!(report["instance"]["volume_ids"].as_array().unwrap().len(), 2, "{report}");
        let again = self.backstop.json(&line).await;
        assert_eq!(again["instance"], report["instance"], "a repeated command reports the same");
        let root = Login { user: "root".into(), password: String::new().into() };
        let connector = Connector::with_login(root, None);
        let mut session = connector.connect(self.host.join("server/mysqld.sock").as_path()).await.unwrap();
        let server: (u16, bool, String) =
            session.one("SELECT @@port, @@read_only, @@innodb_log_group_home_dir").await.unwrap();
        assert_eq!(server, (self.port, true, self.redo().display().to_string()));
        assert_eq!(session.one::<u64>("SELECT SUM(id) FROM one.t").await.unwrap(), 1);
    }

    /// Kills every server of the shard, and unmounts the volumes of the one that has joined.
    fn loses_all_servers(&self) {
        self.fleet.shard.members.iter().for_each(TestMember::kill);
        kill_server_on(&self.host.join("mysql/data"));
        for mount in [self.host.join("mysql"), self.redo()] {
            let unmounted = Command::new("umount").arg(&mount).status().unwrap();
            assert!(unmounted.success(), "{}", mount.display());
        }
    }

    /// Gives the next instance a port of its own, since all are on this host.
    fn listen_on_another_port(&mut self) {
        let earlier = std::mem::replace(&mut self.port, free_port());
        let text = std::fs::read_to_string(&self.backstop.config).unwrap();
        let here = |port: u16| format!("port = {port}\n");
        assert!(text.contains(&here(earlier)));
        std::fs::write(&self.backstop.config, text.replace(&here(earlier), &here(self.port))).unwrap();
    }

    fn redo(&self) -> PathBuf {
        self.fleet.shard.base().join("redo")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_backup_joins_the_shard_and_outlives_it() {
    let fleet = start_on_two_volumes().await;
    let Some(cloud) = AwsStack::start(&fleet.shard).await else { return };
    let primary = fleet.shard.primary();
    tables::fill(primary, 2, 500).await;
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(50).await;
    let mut secret = fleet.entry();
    secret["region"] = json!(aws_stack::REGION);
    // The tags of the volumes name their mount points.
    secret.as_object_mut().unwrap().remove("volume");
    let done = Scheduled::fire(&fleet, &secret, cloud.url()).await;
    done.is_tagged(cloud.url(), aws_stack::REGION).await;
    done.is_ended_by_its_event(&fleet, cloud.url(), aws_stack::REGION).await;
    workload.wait_for_more(50).await;
    let written = workload.stop().await;

    let mut recovering = Recovering::of(fleet, cloud, &done).await;
    let ran = recovering.backstop.run("--json status shop-1").await;
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    let backup = &status["shards"][0]["last_backup"];
    assert_eq!(backup["ebs"]["state"], "completed", "{status}");
    assert_eq!(backup["ebs"]["snapshot_ids"].as_array().unwrap().len(), 2, "{status}");
    let latest = recovering.backstop.json("backups shop-1 --latest").await;
    assert_eq!(latest["backups"][0]["gtid_executed"], done.entry.facts.gtid_executed.to_string(), "{latest}");
    recovering.joined(&written).await;
    recovering.fleet.unharmed().await;
    recovering.recovers_to_a_moment_after_the_loss().await;
}
