//! Actions of each role that Terraform makes, and the way in which each is asked.
//!
//! A test of `testing/terraform` holds them equal to the policies.

use serde::Serialize;

/// A role that runs a part of Backstop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AwsRole {
    /// The Lambda function that backs up.
    Function,
    /// The Lambda function that ends backups.
    Completion,
    /// Deletes backups.
    Prune,
    /// Archives binary logs.
    Archiver,
    /// Recovers shards.
    Recover,
    /// Drills recoveries.
    Drill,
}

/// One action of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleAction {
    /// IAM's name of it.
    pub action: &'static str,
    /// The way in which it is asked.
    pub asking: Asking,
}

/// Way in which an action is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// A dry run that needs no resource.
    Account,
    /// A dry run on a resource of the shard.
    On(Subject),
    /// Authorized by EC2 with the dry run of another action.
    With(&'static str),
    /// Not at all.
    Never,
}

/// Resource that a dry run needs, since IAM decides by its tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The shard's secret, by a real read.
    Secret,
    /// The instance of a member.
    Instance,
    /// A proven snapshot of the shard.
    ProvenSnapshot,
    /// An unproven snapshot of the shard.
    UnprovenSnapshot,
    /// A subnet of `recovery.subnets`.
    Subnet,
    /// An instance of a recovery, with its volume and network interface.
    Recovery,
}

impl Subject {
    /// Returns the subject in words, and the way to one.
    pub fn wanted(self) -> (&'static str, &'static str) {
        match self {
            Self::Secret => (
                "the shard's entry in Secrets Manager",
                "check with credentials = { secrets_manager = … }, as the functions read it",
            ),
            Self::Instance => ("the instance of a member", "correct the findings about the instances first"),
            Self::ProvenSnapshot => {
                ("a snapshot with Backstop-State = proven", "take the first backup, then check again")
            }
            Self::UnprovenSnapshot => (
                "a snapshot with Backstop-State = unproven",
                "only a failed run leaves one: the next backup reports what it may not delete",
            ),
            Self::Subnet => {
                ("a subnet of recovery.subnets", "configure the shard's recovery, then check again")
            }
            Self::Recovery => (
                "an instance with the tag Backstop-Recovery",
                "run a drill with --plan, then a whole one, and check while its instance exists",
            ),
        }
    }
}

impl AwsRole {
    /// All roles.
    pub const ALL: [Self; 6] =
        [Self::Function, Self::Completion, Self::Prune, Self::Archiver, Self::Recover, Self::Drill];

    /// Returns its name, as `--role` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Completion => "completion",
            Self::Prune => "prune",
            Self::Archiver => "archiver",
            Self::Recover => "recover",
            Self::Drill => "drill",
        }
    }

    /// Returns the Terraform module with its policy.
    pub fn policy(self) -> &'static str {
        match self {
            Self::Function | Self::Prune => "deploy/terraform/modules/shared/backup-policy",
            Self::Completion => "deploy/terraform/modules/completion",
            Self::Archiver => "deploy/terraform/modules/shard-archiver",
            Self::Recover | Self::Drill => "deploy/terraform/modules/shared/recovery-policy",
        }
    }

    /// Returns its actions of EC2, IAM and Secrets Manager.
    pub fn actions(self) -> Vec<RoleAction> {
        let listed: &[RoleAction] = match self {
            Self::Function => &FUNCTION,
            Self::Completion => &COMPLETION,
            Self::Prune => &PRUNE,
            Self::Archiver => &ARCHIVER,
            Self::Recover | Self::Drill => &RECOVERY,
        };
        let own = if self == Self::Recover { &FAST_RESTORE[..] } else { &[] };
        listed.iter().chain(own).copied().collect()
    }

    /// Returns the ids of the recoveries that it may touch: a pattern of IAM.
    pub fn recoveries(self) -> &'static str {
        if self == Self::Drill { "drill-*" } else { "*" }
    }

    /// Returns a recovery's id for a dry run.
    pub fn trial_recovery(self) -> &'static str {
        if self == Self::Drill { "drill-check" } else { "check" }
    }
}

const fn act(action: &'static str, asking: Asking) -> RoleAction {
    RoleAction { action, asking }
}

const FUNCTION: [RoleAction; 7] = [
    act("ec2:DescribeInstances", Asking::Account),
    act("ec2:DescribeVolumes", Asking::Account),
    act("ec2:DescribeSnapshots", Asking::Account),
    act("ec2:CreateSnapshots", Asking::On(Subject::Instance)),
    act("ec2:CreateTags", Asking::On(Subject::ProvenSnapshot)),
    act("ec2:DeleteSnapshot", Asking::On(Subject::UnprovenSnapshot)),
    act("secretsmanager:GetSecretValue", Asking::On(Subject::Secret)),
];

const COMPLETION: [RoleAction; 3] = [
    act("ec2:DescribeSnapshots", Asking::Account),
    act("ec2:CreateTags", Asking::On(Subject::ProvenSnapshot)),
    act("secretsmanager:GetSecretValue", Asking::On(Subject::Secret)),
];

const PRUNE: [RoleAction; 2] = [
    act("ec2:DescribeSnapshots", Asking::Account),
    act("ec2:DeleteSnapshot", Asking::On(Subject::ProvenSnapshot)),
];

const ARCHIVER: [RoleAction; 2] = [
    act("ec2:DescribeSnapshots", Asking::Account),
    act("secretsmanager:GetSecretValue", Asking::On(Subject::Secret)),
];

const RECOVERY: [RoleAction; 27] = [
    act("ec2:DescribeFastSnapshotRestores", Asking::Account),
    act("ec2:DescribeImages", Asking::Account),
    act("ec2:DescribeInstances", Asking::Account),
    act("ec2:DescribeInstanceTypes", Asking::Account),
    act("ec2:DescribeNetworkInterfaces", Asking::Account),
    act("ec2:DescribeSecurityGroups", Asking::Account),
    act("ec2:DescribeSnapshots", Asking::Account),
    act("ec2:DescribeSubnets", Asking::Account),
    act("ec2:DescribeTags", Asking::Account),
    act("ec2:DescribeVolumes", Asking::Account),
    act("ec2:DescribeVolumeStatus", Asking::Account),
    act("ec2:DescribeVpcs", Asking::Account),
    act("ec2:CreateNetworkInterface", Asking::On(Subject::Subnet)),
    act("ec2:CreateTags", Asking::With("ec2:CreateNetworkInterface")),
    act("ec2:CreateVolume", Asking::On(Subject::ProvenSnapshot)),
    act("ec2:RunInstances", Asking::On(Subject::Recovery)),
    act("ec2:AttachVolume", Asking::On(Subject::Recovery)),
    act("ec2:DetachVolume", Asking::On(Subject::Recovery)),
    act("ec2:DescribeInstanceAttribute", Asking::On(Subject::Recovery)),
    act("ec2:GetConsoleOutput", Asking::On(Subject::Recovery)),
    act("ec2:ModifyInstanceAttribute", Asking::On(Subject::Recovery)),
    act("ec2:StartInstances", Asking::On(Subject::Recovery)),
    act("ec2:StopInstances", Asking::On(Subject::Recovery)),
    act("ec2:TerminateInstances", Asking::On(Subject::Recovery)),
    act("ec2:DeleteVolume", Asking::On(Subject::Recovery)),
    act("ec2:DeleteNetworkInterface", Asking::On(Subject::Recovery)),
    act("iam:PassRole", Asking::Never),
];

const FAST_RESTORE: [RoleAction; 2] = [
    act("ec2:EnableFastSnapshotRestores", Asking::On(Subject::ProvenSnapshot)),
    act("ec2:DisableFastSnapshotRestores", Asking::On(Subject::ProvenSnapshot)),
];

/// Actions of `check --aws` itself, beside those of the roles.
pub const CHECK_ACTIONS: [&str; 7] = [
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeSnapshots",
    "ec2:DescribeVolumes",
    "kms:DescribeKey",
    "kms:ListGrants",
];
