//! Dry runs of EC2's actions. Each request has `DryRun`: EC2 answers whether it would be allowed,
//! and does nothing
//! (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html>).

use std::collections::BTreeMap;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::{
    AttributeBooleanValue, InstanceNetworkInterfaceSpecification, InstanceType, ResourceType, Tag,
    TagSpecification,
};
use backstop_policy::first_day::roles::AwsRole;
use backstop_types::error::Error;

use super::subjects::{MemberInstance, RecoveredInstance};
use crate::ebs::ec2::{CreateRequest, EbsSnapshot, Ec2};
use crate::ebs::{COMPLETION_TAG, PROVEN, STATE_TAG};
use crate::error::{AwsCall, code};

/// Answer to one dry run.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// The action is allowed.
    Allowed,
    /// IAM denies it.
    Denied(Error),
    /// AWS did not answer this question.
    Unanswered(Error),
    /// EC2 did not treat the request as a dry run.
    CarriedOut,
}

/// Sends a request as a dry run.
macro_rules! dry {
    ($call:expr, $request:expr) => {
        heard(&$call, $request.dry_run(true).send().await)
    };
}

fn heard<T, E, R>(call: &AwsCall<'_>, answer: Result<T, SdkError<E, R>>) -> Asked
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match answer {
        Ok(_) if call.action.starts_with("ec2:Describe") => Asked::Allowed,
        Ok(_) => Asked::CarriedOut,
        Err(error) => match code(&error) {
            Some("DryRunOperation") => Asked::Allowed,
            Some("UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException") => {
                Asked::Denied(call.error(&error))
            }
            _ => Asked::Unanswered(call.error(&error)),
        },
    }
}

fn unknown(action: &str) -> Asked {
    Asked::Unanswered(Error::failed(format!("cannot ask for {action}: Backstop has no dry run of it")))
}

/// Asks for an action that needs no resource.
pub(super) async fn describe(ec2: &Ec2, action: &'static str) -> Asked {
    let doing = format!("ask for {action}");
    let (client, call) = (ec2.client(), ec2.call(&doing, action));
    match action {
        "ec2:DescribeFastSnapshotRestores" => dry!(call, client.describe_fast_snapshot_restores()),
        "ec2:DescribeImages" => dry!(call, client.describe_images().owners("self")),
        "ec2:DescribeInstances" => dry!(call, client.describe_instances().max_results(5)),
        "ec2:DescribeInstanceTypes" => dry!(call, client.describe_instance_types().max_results(5)),
        "ec2:DescribeNetworkInterfaces" => dry!(call, client.describe_network_interfaces().max_results(5)),
        "ec2:DescribeSecurityGroups" => dry!(call, client.describe_security_groups().max_results(5)),
        "ec2:DescribeSnapshots" => dry!(call, client.describe_snapshots().owner_ids("self").max_results(5)),
        "ec2:DescribeSubnets" => dry!(call, client.describe_subnets().max_results(5)),
        "ec2:DescribeTags" => dry!(call, client.describe_tags().max_results(5)),
        "ec2:DescribeVolumes" => dry!(call, client.describe_volumes().max_results(5)),
        "ec2:DescribeVolumeStatus" => dry!(call, client.describe_volume_status().max_results(5)),
        "ec2:DescribeVpcs" => dry!(call, client.describe_vpcs().max_results(5)),
        other => unknown(other),
    }
}

/// Asks for a snapshot of the member's volumes, with the tags of a backup.
pub(super) async fn snapshot(
    ec2: &Ec2,
    action: &'static str,
    on: &MemberInstance,
    tags: &BTreeMap<String, String>,
) -> Asked {
    let doing = format!("ask for a snapshot of {}", on.instance.id);
    let call = ec2.call(&doing, action);
    let chosen = match &on.chosen {
        Ok(chosen) => chosen,
        Err(error) => return Asked::Unanswered(error.clone()),
    };
    let others = on.attached.iter().filter(|volume| !volume.is_root && !chosen.ids.contains(&volume.id));
    let order = CreateRequest {
        instance: &on.instance.id,
        with_root: on.attached.iter().any(|volume| volume.is_root && chosen.ids.contains(&volume.id)),
        without: &others.map(|volume| volume.id.clone()).collect::<Vec<_>>(),
        description: "Backstop",
        tags,
    };
    dry!(call, ec2.creation(&order))
}

/// Tags and zone of a trial recovery.
pub(super) struct TrialRecovery {
    /// The tags of its resources.
    pub(super) tags: Vec<Tag>,
    /// Its availability zone.
    pub(super) zone: String,
}

fn tagged(kind: ResourceType, trial: &TrialRecovery) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(trial.tags.clone())).build()
}

/// Asks for an action on a snapshot of the shard.
pub(super) async fn on_snapshot(
    ec2: &Ec2,
    (role, action): (AwsRole, &'static str),
    on: &EbsSnapshot,
    trial: &TrialRecovery,
) -> Asked {
    let doing = format!("ask for {action} on {}", on.id);
    let (client, call) = (ec2.client(), ec2.call(&doing, action));
    match action {
        "ec2:CreateTags" => {
            let (key, value) = match role {
                AwsRole::Completion => (COMPLETION_TAG, "completed"),
                _ => (STATE_TAG, PROVEN),
            };
            let tag = Tag::builder().key(key).value(value).build();
            dry!(call, client.create_tags().resources(&on.id).tags(tag))
        }
        "ec2:DeleteSnapshot" => dry!(call, client.delete_snapshot().snapshot_id(&on.id)),
        "ec2:CreateVolume" => {
            let volume = client.create_volume().snapshot_id(&on.id).availability_zone(&trial.zone);
            dry!(call, volume.encrypted(true).tag_specifications(tagged(ResourceType::Volume, trial)))
        }
        "ec2:EnableFastSnapshotRestores" => {
            let restore = client.enable_fast_snapshot_restores().source_snapshot_ids(&on.id);
            dry!(call, restore.availability_zones(&trial.zone))
        }
        "ec2:DisableFastSnapshotRestores" => {
            let restore = client.disable_fast_snapshot_restores().source_snapshot_ids(&on.id);
            dry!(call, restore.availability_zones(&trial.zone))
        }
        other => unknown(other),
    }
}

/// Asks for an action in a subnet.
pub(super) async fn in_subnet(ec2: &Ec2, action: &'static str, subnet: &str, trial: &TrialRecovery) -> Asked {
    let doing = format!("ask for {action} in {subnet}");
    let (client, call) = (ec2.client(), ec2.call(&doing, action));
    let tags = tagged(ResourceType::NetworkInterface, trial);
    match action {
        "ec2:CreateNetworkInterface" => {
            dry!(call, client.create_network_interface().subnet_id(subnet).tag_specifications(tags))
        }
        other => unknown(other),
    }
}

/// Asks for an action on the instance of a recovery, its volume or its network interface.
pub(super) async fn on_recovery(
    ec2: &Ec2,
    action: &'static str,
    on: &RecoveredInstance,
    trial: &TrialRecovery,
) -> Asked {
    let (id, volume) = (on.id.as_str(), on.volume.as_str());
    let doing = format!("ask for {action} on {id}");
    let (client, call) = (ec2.client(), ec2.call(&doing, action));
    match action {
        "ec2:RunInstances" => run(ec2, &call, on, trial).await,
        "ec2:AttachVolume" => {
            dry!(call, client.attach_volume().instance_id(id).volume_id(volume).device("/dev/sdp"))
        }
        "ec2:DetachVolume" => dry!(call, client.detach_volume().instance_id(id).volume_id(volume)),
        "ec2:DescribeInstanceAttribute" => {
            let attribute = aws_sdk_ec2::types::InstanceAttributeName::DisableApiTermination;
            dry!(call, client.describe_instance_attribute().instance_id(id).attribute(attribute))
        }
        "ec2:GetConsoleOutput" => dry!(call, client.get_console_output().instance_id(id)),
        "ec2:ModifyInstanceAttribute" => {
            let protected = AttributeBooleanValue::builder().value(true).build();
            let change = client.modify_instance_attribute().instance_id(id);
            dry!(call, change.disable_api_termination(protected))
        }
        "ec2:StartInstances" => dry!(call, client.start_instances().instance_ids(id)),
        "ec2:StopInstances" => dry!(call, client.stop_instances().instance_ids(id)),
        "ec2:TerminateInstances" => dry!(call, client.terminate_instances().instance_ids(id)),
        "ec2:DeleteVolume" => dry!(call, client.delete_volume().volume_id(volume)),
        "ec2:DeleteNetworkInterface" => {
            dry!(call, client.delete_network_interface().network_interface_id(&on.interface))
        }
        other => unknown(other),
    }
}

async fn run(ec2: &Ec2, call: &AwsCall<'_>, on: &RecoveredInstance, trial: &TrialRecovery) -> Asked {
    let interface = InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .network_interface_id(&on.interface)
        .build();
    let instance = ec2
        .client()
        .run_instances()
        .image_id(&on.image)
        .instance_type(InstanceType::from(on.instance_type.as_str()))
        .min_count(1)
        .max_count(1)
        .network_interfaces(interface)
        .tag_specifications(tagged(ResourceType::Instance, trial))
        .tag_specifications(tagged(ResourceType::Volume, trial));
    dry!(call, instance)
}
