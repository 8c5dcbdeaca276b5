//! The complete path: a schedule invokes the function, which queries orchestrator and snapshots the
//! candidate; EBS's event ends the backup; then the latest backup is found, Terraform creates an
//! instance of it, and Ansible joins the server on it to the shard.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use backstop_testkit::aws_stack::{self, AwsStack, assert_joined};
use backstop_testkit::member::free_port;
use backstop_testkit::{TestWorkload, tables};
use secrecy::ExposeSecret;
use serde_json::json;

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

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_backup_is_recovered_and_joined_to_the_shard() {
    let fleet = Environment::start().await;
    let Some(cloud) = AwsStack::start(&fleet.shard).await else { return };
    let primary = fleet.shard.primary();
    tables::fill(primary, 2, 500).await;
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(50).await;
    let mut secret = fleet.entry();
    secret["region"] = json!(aws_stack::REGION);
    let done = Scheduled::fire(&fleet, &secret, cloud.url()).await;
    done.is_tagged(cloud.url(), aws_stack::REGION).await;
    done.is_ended_by_its_event(&fleet, cloud.url(), aws_stack::REGION).await;
    workload.wait_for_more(50).await;
    let written = workload.stop().await;

    let mut backstop = Backstop::of(&fleet.shard, "ebs").await;
    let host = fleet.shard.base().join("host");
    std::fs::create_dir_all(&host).unwrap();
    let recovery = cloud.recovery("shop-1", &host, free_port(), str::to_owned).await;
    std::fs::write(&backstop.config, configured(&fleet, &done, &backstop, &recovery)).unwrap();
    backstop.environment = cloud.environment();
    let status: serde_json::Value =
        serde_json::from_str(&backstop.run("--json status shop-1").await.out).unwrap();
    assert_eq!(status["shards"][0]["last_backup"]["ebs"]["state"], "completed", "{status}");
    let latest = backstop.json("backups shop-1 --latest").await;
    let latest = &latest["backups"][0];
    assert_eq!(latest["gtid_executed"], done.entry.facts.gtid_executed.to_string(), "{latest}");
    let into = fleet.shard.base().join("recovery");
    let line = format!("recover shop-1 --to latest --join --into {}", into.display());
    let report = backstop.json(&line).await;
    assert_eq!((&report["joined"], &report["backup_id"]), (&true.into(), &latest["backup_id"]), "{report}");

    assert_joined(&host.join("mysqld.sock"), primary, &written).await;
    let left = cloud.left();
    assert_eq!(left["instances"], json!([report["instance"]["instance_id"]]));
    fleet.unharmed().await;
}
