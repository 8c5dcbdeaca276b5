//! EC2 calls, each with the IAM action that it requires.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::error::SdkError;
use aws_sdk_ec2::operation::create_snapshots::CreateSnapshotsError;
use aws_sdk_ec2::operation::create_snapshots::builders::CreateSnapshotsFluentBuilder;
use aws_sdk_ec2::operation::describe_snapshots::builders::DescribeSnapshotsFluentBuilder;
use aws_sdk_ec2::types::{
    Filter, InitializationType, Instance, InstanceSpecification, ResourceType, Snapshot, SnapshotState,
    StorageTier, Tag, TagSpecification, VolumeStatusItem,
};
use backstop_types::error::{Error, Result};
use chrono::{DateTime, Utc};

use super::volumes::{AttachedVolume, VolumePerformance};
use crate::client::AwsClient;
use crate::error::{AwsCall, THROTTLING_CODES, code};

/// Largest number of entries in one page of an answer.
const PAGE: i32 = 500;

/// EC2 in one region.
#[derive(Debug, Clone)]
pub(crate) struct Ec2 {
    client: Client,
    /// Client without retries, for the call that must not be made twice.
    once: Client,
    patience: RetryConfig,
    pub(crate) region: String,
}

/// An instance, reduced to the fields in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundInstance {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) root_device: String,
    pub(crate) state: String,
    pub(crate) zone: String,
    pub(crate) image: String,
    pub(crate) instance_type: String,
}

/// One snapshot of a volume, as EC2 describes it.
#[derive(Debug, Clone)]
pub(crate) struct EbsSnapshot {
    pub(crate) id: String,
    pub(crate) volume: String,
    pub(crate) state: EbsSnapshotState,
    pub(crate) gibibytes: u64,
    pub(crate) begun: Option<DateTime<Utc>>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// State of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EbsSnapshotState {
    Pending,
    Completed,
    Error,
    /// In the archive tier.
    Archived,
    /// Deleted, and kept by the recycle bin.
    Recycled,
}

/// Request to create a set of snapshots.
pub(crate) struct CreateRequest<'a> {
    pub(crate) instance: &'a str,
    /// True if the root volume is in the set.
    pub(crate) with_root: bool,
    /// Data volumes to leave out of the set.
    pub(crate) without: &'a [String],
    pub(crate) description: &'a str,
    pub(crate) tags: &'a BTreeMap<String, String>,
}

/// Outcome of the one attempt.
pub(crate) enum CreateOutcome {
    /// EC2 has begun the set.
    Begun(Vec<EbsSnapshot>),
    /// EC2 refused: no snapshot exists.
    Rejected(Error),
    /// EC2 refused since there are too many requests: no snapshot exists, and a later attempt may
    /// succeed.
    Throttled(Error),
    /// Unknown: a snapshot may exist.
    Unknown(Error),
}

impl Ec2 {
    pub(crate) fn new(aws: &AwsClient) -> Self {
        let once = aws_sdk_ec2::config::Builder::from(aws.config()).retry_config(RetryConfig::disabled());
        Self {
            client: Client::new(aws.config()),
            once: Client::from_conf(once.build()),
            patience: aws.config().retry_config().cloned().unwrap_or_else(RetryConfig::standard),
            region: aws.region().to_owned(),
        }
    }

    /// Returns the SDK's client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn call<'a>(&'a self, doing: &'a str, action: &'static str) -> AwsCall<'a> {
        AwsCall { doing, action, region: &self.region }
    }

    /// Returns the instances that a filter matches, except terminated ones.
    pub(crate) async fn instances(&self, name: &str, values: &[String]) -> Result<Vec<FoundInstance>> {
        let call = self.call("find the instance of the MySQL server", "ec2:DescribeInstances");
        let pages = self
            .client
            .describe_instances()
            .filters(filter(name, values))
            .max_results(PAGE)
            .into_paginator()
            .items()
            .send();
        let reservations = pages.try_collect().await.map_err(|error| call.error(&error))?;
        let instances = reservations.into_iter().flat_map(|each| each.instances.unwrap_or_default());
        Ok(instances
            .map(instance_of)
            .filter(|found| !["terminated", "shutting-down"].contains(&&*found.state))
            .collect())
    }

    /// Returns each volume's progress of initialization from its snapshot: percent, and if EC2
    /// loads it by itself. `None`: EC2 does not report it.
    pub(crate) async fn filled(&self, volumes: &[String]) -> Result<Vec<Option<(i64, bool)>>> {
        let call = self.call("query the initialization of the volumes", "ec2:DescribeVolumeStatus");
        let asked = self.client.describe_volume_status().set_volume_ids(Some(volumes.to_vec()));
        let told = asked.send().await.map_err(|error| call.error(&error))?;
        let filled = |status: &VolumeStatusItem| {
            let details = status.initialization_status_details()?;
            let itself = details.initialization_type() != Some(&InitializationType::Default);
            Some((details.progress()?, itself))
        };
        Ok(told.volume_statuses().iter().map(filled).collect())
    }

    /// Returns the volumes that are attached to an instance.
    pub(crate) async fn attached(&self, instance: &FoundInstance) -> Result<Vec<AttachedVolume>> {
        let doing = format!("list the volumes of {}", instance.id);
        let call = self.call(&doing, "ec2:DescribeVolumes");
        let filter = filter("attachment.instance-id", std::slice::from_ref(&instance.id));
        let pages =
            self.client.describe_volumes().filters(filter).max_results(PAGE).into_paginator().items().send();
        let volumes = pages.try_collect().await.map_err(|error| call.error(&error))?;
        let mut attached: Vec<_> = volumes
            .into_iter()
            .filter_map(|volume| {
                let attachment =
                    volume.attachments().iter().find(|a| a.instance_id() == Some(&instance.id))?;
                let device = attachment.device().unwrap_or_default().to_owned();
                Some(AttachedVolume {
                    id: volume.volume_id()?.to_owned(),
                    is_root: device == instance.root_device,
                    device,
                    gibibytes: gibibytes(volume.size),
                    performance: VolumePerformance {
                        volume_type: volume.volume_type().map(|kind| kind.as_str().to_owned()),
                        iops: volume.iops().and_then(|iops| iops.try_into().ok()),
                        throughput_mib: volume.throughput().and_then(|rate| rate.try_into().ok()),
                        kms_key_id: volume.kms_key_id().map(str::to_owned),
                    },
                    tags: tags(volume.tags()),
                })
            })
            .collect();
        attached.sort_by(|one, other| one.device.cmp(&other.device));
        Ok(attached)
    }

    /// Asks EC2 if the request would be allowed, over the connection that the request will use.
    pub(crate) async fn rehearse(&self, order: &CreateRequest<'_>) -> Result<()> {
        let doing = format!("rehearse a snapshot of {}", order.instance);
        let call = self.call(&doing, "ec2:CreateSnapshots");
        // Throttling is not a reason to fail here.
        let patient = aws_sdk_ec2::config::Builder::new().retry_config(self.patience.clone());
        match self.creation(order).dry_run(true).customize().config_override(patient).send().await {
            Err(error) if code(&error) == Some("DryRunOperation") => Ok(()),
            Err(error) => Err(call.error(&error)),
            Ok(_) => Err(Error::failed(format!("cannot {doing}: EC2 did not treat it as a dry run"))),
        }
    }

    /// Sends the request, exactly once.
    pub(crate) async fn create(&self, order: &CreateRequest<'_>) -> CreateOutcome {
        let doing = format!("snapshot {}", order.instance);
        let call = self.call(&doing, "ec2:CreateSnapshots");
        match self.creation(order).send().await {
            Ok(answer) => {
                CreateOutcome::Begun(answer.snapshots().iter().filter_map(created_snapshot).collect())
            }
            Err(error) if is_throttled(&error) => CreateOutcome::Throttled(call.error(&error)),
            Err(error) if is_rejection(&error) => CreateOutcome::Rejected(call.error(&error)),
            Err(error) => CreateOutcome::Unknown(call.error(&error)),
        }
    }

    /// Returns the request, not sent yet.
    pub(crate) fn creation(&self, order: &CreateRequest<'_>) -> CreateSnapshotsFluentBuilder {
        let without = (!order.without.is_empty()).then(|| order.without.to_vec());
        let instance = InstanceSpecification::builder()
            .instance_id(order.instance)
            .exclude_boot_volume(!order.with_root)
            .set_exclude_data_volume_ids(without);
        let tags =
            order.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tags = TagSpecification::builder().resource_type(ResourceType::Snapshot).set_tags(Some(tags));
        self.once
            .create_snapshots()
            .instance_specification(instance.build())
            .description(order.description)
            .tag_specifications(tags.build())
    }

    /// Changes one tag.
    pub(crate) async fn tag(&self, ids: &[String], key: &str, value: &str) -> Result<()> {
        let doing = format!("tag {} as {value}", ids.join(", "));
        let call = self.call(&doing, "ec2:CreateTags");
        let tag = Tag::builder().key(key).value(value).build();
        let done = self.client.create_tags().set_resources(Some(ids.to_vec())).tags(tag).send().await;
        done.map(drop).map_err(|error| call.error(&error))
    }

    /// Begins a request for the account's own snapshots, page by page: EC2 may time out on a long
    /// list that is not paginated
    /// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html#api-pagination>).
    fn snapshots_page(&self) -> DescribeSnapshotsFluentBuilder {
        self.client.describe_snapshots().owner_ids("self").max_results(PAGE)
    }

    /// Returns the account's own snapshots with these tags.
    pub(crate) async fn tagged(&self, tags: &[(&str, &str)]) -> Result<Vec<EbsSnapshot>> {
        let call = self.call("list the snapshots", "ec2:DescribeSnapshots");
        let filters = tags.iter().map(|(key, value)| filter(&format!("tag:{key}"), &[(*value).to_owned()]));
        let asked = self.snapshots_page().set_filters(Some(filters.collect()));
        let snapshots =
            asked.into_paginator().items().send().try_collect().await.map_err(|error| call.error(&error))?;
        Ok(snapshots.iter().filter_map(snapshot_of).collect())
    }

    /// Returns these snapshots, without those that EC2 does not find (yet, or any more).
    pub(crate) async fn described(&self, ids: &[String]) -> Result<Vec<EbsSnapshot>> {
        let doing = format!("describe {}", ids.join(", "));
        let call = self.call(&doing, "ec2:DescribeSnapshots");
        // Use a filter, since an unknown id in a request is an error for all of them.
        let asked = self.snapshots_page().filters(filter("snapshot-id", ids));
        let snapshots =
            asked.into_paginator().items().send().try_collect().await.map_err(|error| call.error(&error))?;
        Ok(snapshots.iter().filter_map(snapshot_of).collect())
    }

    /// Deletes a snapshot. A snapshot that is gone is not an error.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        let doing = format!("delete {id}");
        let call = self.call(&doing, "ec2:DeleteSnapshot");
        match self.client.delete_snapshot().snapshot_id(id).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("InvalidSnapshot.NotFound") => Ok(()),
            Err(error) => {
                let failure = call.error(&error);
                Err(match code(&error) {
                    Some("InvalidSnapshot.InUse") => failure.hint("deregister the AMI that uses it first"),
                    // https://docs.aws.amazon.com/ebs/latest/userguide/ebs-snapshot-lock.html
                    Some(code) if code.contains("Lock") => {
                        failure.hint("a snapshot lock protects it: wait until the lock expires, or remove it")
                    }
                    _ => failure,
                })
            }
        }
    }
}

/// Decides if EC2 refused the request for the number of requests. Such a request had no effect.
fn is_throttled(error: &SdkError<CreateSnapshotsError>) -> bool {
    matches!(error, SdkError::ServiceError(_))
        && code(error).is_some_and(|code| THROTTLING_CODES.contains(&code))
}

/// Decides if an error proves that no snapshot was created: only a 4xx answer, or a request that
/// could not be built and was never sent.
fn is_rejection(error: &SdkError<CreateSnapshotsError>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            (400..500).contains(&status) && status != 408
        }
        _ => false,
    }
}

/// Builds a filter, and escapes `*`, `?` and `\`, which are special in its values.
fn filter(name: &str, values: &[String]) -> Filter {
    let plain = |value: &String| value.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?");
    Filter::builder().name(name).set_values(Some(values.iter().map(plain).collect())).build()
}

fn instance_of(instance: Instance) -> FoundInstance {
    let name = tags(instance.tags()).remove("Name").unwrap_or_default();
    let state = instance.state().and_then(|state| state.name()).map(|name| name.as_str().to_owned());
    FoundInstance {
        name,
        state: state.unwrap_or_default(),
        zone: instance
            .placement
            .as_ref()
            .and_then(|place| place.availability_zone.clone())
            .unwrap_or_default(),
        root_device: instance.root_device_name.unwrap_or_default(),
        image: instance.image_id.unwrap_or_default(),
        instance_type: instance.instance_type.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        id: instance.instance_id.unwrap_or_default(),
    }
}

fn snapshot_of(snapshot: &Snapshot) -> Option<EbsSnapshot> {
    Some(EbsSnapshot {
        id: snapshot.snapshot_id()?.to_owned(),
        volume: snapshot.volume_id().unwrap_or_default().to_owned(),
        state: match snapshot_state(snapshot.state()) {
            EbsSnapshotState::Completed if snapshot.storage_tier() == Some(&StorageTier::Archive) => {
                EbsSnapshotState::Archived
            }
            state => state,
        },
        gibibytes: gibibytes(snapshot.volume_size),
        begun: moment(snapshot.start_time()),
        tags: tags(snapshot.tags()),
    })
}

fn created_snapshot(snapshot: &aws_sdk_ec2::types::SnapshotInfo) -> Option<EbsSnapshot> {
    Some(EbsSnapshot {
        id: snapshot.snapshot_id()?.to_owned(),
        volume: snapshot.volume_id().unwrap_or_default().to_owned(),
        state: snapshot_state(snapshot.state()),
        gibibytes: gibibytes(snapshot.volume_size),
        begun: moment(snapshot.start_time()),
        tags: tags(snapshot.tags()),
    })
}

/// Converts a state. `recoverable` and `recovering` belong to the recycle bin
/// (<https://docs.aws.amazon.com/ebs/latest/userguide/recycle-bin.html>).
fn snapshot_state(state: Option<&SnapshotState>) -> EbsSnapshotState {
    match state {
        Some(SnapshotState::Completed) => EbsSnapshotState::Completed,
        Some(SnapshotState::Pending) => EbsSnapshotState::Pending,
        Some(SnapshotState::Recoverable | SnapshotState::Recovering) => EbsSnapshotState::Recycled,
        _ => EbsSnapshotState::Error,
    }
}

fn moment(time: Option<&aws_sdk_ec2::primitives::DateTime>) -> Option<DateTime<Utc>> {
    time.and_then(|time| DateTime::from_timestamp(time.secs(), time.subsec_nanos()))
}

fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
        .collect()
}

fn gibibytes(size: Option<i32>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}

/// Returns the ids of a set, sorted.
pub(crate) fn ids(snapshots: &[EbsSnapshot]) -> Vec<String> {
    snapshots.iter().map(|snapshot| snapshot.id.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}
