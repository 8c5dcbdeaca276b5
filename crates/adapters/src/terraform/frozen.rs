//! Tests that the variables and the state of Terraform stay the same, byte for byte:
//! `tests/frozen`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use backstop_config::settings::RecoverySettings;
use backstop_engine::ports::{DestroyProtection, InstanceSpec};
use backstop_testkit::frozen::{frozen, parsed};
use backstop_testkit::{every, snapshot_conformance};
use backstop_types::ebs_volume::EbsVolume;

use super::{Terraform, TerraformOutput, backend, created_instance, environment};

#[test]
fn terraform_variables_and_state_keep_stored_form() {
    let settings = RecoverySettings {
        terraform: "/etc/backstop/recovery".into(),
        playbook: "/etc/backstop/recover.yml".into(),
        subnets: BTreeMap::new(),
        variables: [("instance_type".to_owned(), "r6g.large".into())].into(),
        state: [("bucket".to_owned(), "states".to_owned())].into(),
        configuration: None,
    };
    let terraform = Terraform::new(settings, snapshot_conformance::test_context());
    let logs = EbsVolume {
        snapshot_id: "snap-2".into(),
        volume_id: "vol-2".into(),
        device: "/dev/sdg".into(),
        mount_points: vec!["/logs".into()],
        size_gib: 100,
        volume_type: Some("io2".into()),
        iops: Some(40_000),
        throughput_mib: Some(1000),
        kms_key_id: None,
    };
    let variables = |protection| {
        let wanted = InstanceSpec {
            recovery_id: "r-1".into(),
            shard: "orders".parse().unwrap(),
            primary_zone: "eu-west-1a".into(),
            zone: "eu-west-1b".into(),
            subnet: "subnet-1".into(),
            snapshots: [
                ("/dev/sdf".to_owned(), "snap-1".to_owned()),
                ("/dev/sdg".to_owned(), "snap-2".to_owned()),
            ]
            .into(),
            volumes: [("/dev/sdg".to_owned(), logs.clone())].into(),
            protection,
            folder: "/srv/new/.backstop".into(),
        };
        format!("{}\n", terraform.variables(&wanted))
    };
    let all = every!(DestroyProtection: DestroyProtection::Off, DestroyProtection::On);
    frozen("terraform-variables.json", &all.into_iter().map(variables).collect::<String>());
    frozen("terraform-state.txt", &backend(&terraform.settings.state, "r-1"));
    let environment = environment(Path::new("/srv/new/.backstop"));
    let environment = environment.iter().map(|(name, value)| format!("{name}={}\n", value.display()));
    frozen("terraform-environment.txt", &environment.collect::<String>());
}

#[test]
fn terraform_outputs_keep_stored_form() {
    let text = r#"{"mysql_host":{"value":"10.0.0.1:3307"},"instance_id":{"value":"i-1"},"volume_ids":{"value":["vol-1"]},"ansible_inventory":{"value":"mysql: {}"}}"#;
    let outputs: BTreeMap<String, TerraformOutput> = parsed(text);
    frozen(
        "terraform-outputs-read.json",
        &serde_json::to_string(&created_instance(&outputs).unwrap()).unwrap(),
    );
}
