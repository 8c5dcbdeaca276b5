//! Finds the resources of a shard that dry runs need, since IAM decides by their tags.

use aws_sdk_ec2::types::{Filter, Instance};
use backstop_config::settings::{ShardSettings, VolumeHint};
use backstop_policy::first_day::roles::AwsRole;
use backstop_types::error::Result;
use backstop_types::ids::{Endpoint, ShardName};

use crate::account_questions::AccountQuestions;
use crate::ebs::ec2::{EbsSnapshot, Ec2, FoundInstance};
use crate::ebs::find_instance::find_instance;
use crate::ebs::volumes::{AttachedVolume, ChosenVolumes, choose_by_tags};
use crate::ebs::{CLUSTER_TAG, PROVEN, SHARD_TAG, STATE_TAG, UNPROVEN};

/// Tag of every resource of a recovery.
pub(super) const RECOVERY_TAG: &str = "Backstop-Recovery";

/// The instance of a member, with its volumes.
pub(super) struct MemberInstance {
    pub(super) server: Endpoint,
    pub(super) instance: FoundInstance,
    pub(super) attached: Vec<AttachedVolume>,
    pub(super) chosen: Result<ChosenVolumes>,
}

/// The instance of a recovery.
pub(super) struct RecoveredInstance {
    pub(super) id: String,
    pub(super) volume: String,
    pub(super) interface: String,
    pub(super) image: String,
    pub(super) instance_type: String,
}

/// Finds a member's instance.
pub(super) async fn instance(
    ec2: &Ec2,
    server: &Endpoint,
    asked: &AccountQuestions,
) -> Result<FoundInstance> {
    asked.in_time(&format!("find the instance of {server}"), find_instance(ec2, server)).await
}

/// Finds the volumes of a member's instance, and those that a backup would have.
pub(super) async fn with_volumes(
    ec2: &Ec2,
    server: &Endpoint,
    instance: FoundInstance,
    hint: Option<&VolumeHint>,
    asked: &AccountQuestions,
) -> Result<MemberInstance> {
    let doing = format!("list the volumes of {}", instance.id);
    let attached = asked.in_time(&doing, ec2.attached(&instance)).await?;
    let chosen = choose_by_tags(&instance.id, hint, &attached);
    Ok(MemberInstance { server: server.clone(), instance, attached, chosen })
}

/// Resources of a shard in its account. `Ok(None)`: there is none yet.
pub(super) struct Subjects {
    /// The members whose instances were found.
    pub(super) members: Result<Vec<MemberInstance>>,
    pub(super) proven: Result<Option<EbsSnapshot>>,
    pub(super) unproven: Result<Option<EbsSnapshot>>,
    /// Availability zone and subnet.
    pub(super) subnet: Option<(String, String)>,
    pub(super) recovered: Result<Option<RecoveredInstance>>,
    pub(super) drilled: Result<Option<RecoveredInstance>>,
}

impl Subjects {
    /// Finds the resources of a shard.
    pub(super) async fn find(
        ec2: &Ec2,
        shard: &ShardName,
        settings: &ShardSettings,
        members: Result<Vec<MemberInstance>>,
        asked: &AccountQuestions,
    ) -> Self {
        let cluster = settings.topology.cluster_name(shard);
        let snapshot = async |state| {
            let tags = [(SHARD_TAG, shard.as_str()), (STATE_TAG, state)];
            asked.in_time("list the snapshots", ec2.tagged(&tags)).await.map(|found| found.into_iter().next())
        };
        let recovery = async |role: AwsRole| {
            let work = recovered(ec2, &cluster, role.recoveries());
            asked.in_time("find the instances of recoveries", work).await
        };
        let (proven, unproven, recovered, drilled) = futures::join!(
            snapshot(PROVEN),
            snapshot(UNPROVEN),
            recovery(AwsRole::Recover),
            recovery(AwsRole::Drill)
        );
        let subnets = settings.recovery.as_ref().map(|recovery| &recovery.subnets);
        let subnet = subnets.and_then(|subnets| subnets.iter().next());
        let subnet = subnet.map(|(zone, subnet)| (zone.clone(), subnet.clone()));
        Self { members, proven, unproven, subnet, recovered, drilled }
    }
}

/// Finds an instance of a recovery of the cluster. `pattern` is one of EC2's filters.
async fn recovered(ec2: &Ec2, cluster: &str, pattern: &str) -> Result<Option<RecoveredInstance>> {
    let call = ec2.call("find the instances of recoveries", "ec2:DescribeInstances");
    let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
    let found = ec2
        .client()
        .describe_instances()
        .filters(filter(&format!("tag:{RECOVERY_TAG}"), pattern))
        .filters(filter(&format!("tag:{CLUSTER_TAG}"), cluster))
        .filters(filter("instance-state-name", "running"))
        .max_results(5)
        .send()
        .await
        .map_err(|error| call.error(&error))?;
    let mut instances = found.reservations().iter().flat_map(|each| each.instances());
    Ok(instances.find_map(facts))
}

fn facts(instance: &Instance) -> Option<RecoveredInstance> {
    let root = instance.root_device_name();
    let data = instance.block_device_mappings().iter().find(|mapped| mapped.device_name() != root);
    Some(RecoveredInstance {
        id: instance.instance_id()?.to_owned(),
        volume: data?.ebs()?.volume_id()?.to_owned(),
        interface: instance.network_interfaces().first()?.network_interface_id()?.to_owned(),
        image: instance.image_id()?.to_owned(),
        instance_type: instance.instance_type()?.as_str().to_owned(),
    })
}
