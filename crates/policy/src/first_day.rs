//! Checks of an AWS account before the first backup: the one list that `check --aws` reports by,
//! and that `docs/first-day.md` is generated from.

pub mod endpoints;
pub mod image;
pub mod quotas;
pub mod roles;

use backstop_types::ids::ShardName;
use serde::Serialize;

use roles::AwsRole;

/// One check of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstDayCheck {
    /// A stable, short name for programs.
    pub code: &'static str,
    /// Title of its section.
    pub title: &'static str,
    /// Failure that it finds before the first backup does.
    pub why: &'static str,
    /// Calls that it makes.
    pub calls: &'static str,
    /// Facts that it does not see.
    pub unseen: &'static str,
    /// The remedy.
    pub todo: &'static str,
    /// AWS's page.
    pub page: &'static str,
}

/// Identity of the credentials.
pub const IDENTITY: FirstDayCheck = FirstDayCheck {
    code: "aws-identity",
    title: "Identity",
    why: "Credentials of another account or principal get answers that say nothing about the roles that will run Backstop.",
    calls: "`sts:GetCallerIdentity`, which needs no permission; the account is compared with those of the configured ARNs.",
    unseen: "Service control policies and permissions boundaries, which only show in the answers to the actions.",
    todo: "use credentials of the configured account (`AWS_PROFILE`, or the role of this host)",
    page: "https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html",
};

/// Regions of the configuration.
pub const REGION: FirstDayCheck = FirstDayCheck {
    code: "aws-region",
    title: "Regions",
    why: "A secret or a repository in another Region than the instances costs transfer, and fails together with that Region.",
    calls: "none: `snapshot.region`, the secret's ARN and `repository.region` are compared.",
    unseen: "The Region of a bucket without `repository.region`.",
    todo: "correct snapshot.region, the secret's ARN or repository.region, unless the difference is meant",
    page: "https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html",
};

/// Network paths to the services.
pub const ENDPOINT: FirstDayCheck = FirstDayCheck {
    code: "aws-endpoint",
    title: "Endpoints",
    why: "Without a path to a service every call waits for its timeout, and a function ends by its own.",
    calls: "none: the name is resolved, and a TCP connection is opened to it, each within the deadline. The calls of the other checks show TLS.",
    unseen: "The path from another host or from the function's subnets: run the check there, too.",
    todo: "give this network a VPC endpoint for the service (module `endpoints`) or NAT, and open port 443 of its security group",
    page: "https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html",
};

/// Permissions of the roles.
pub const ACTION: FirstDayCheck = FirstDayCheck {
    code: "aws-action",
    title: "Actions of the roles",
    why: "A denied action shows at the first backup, deletion or recovery that needs it.",
    calls: "each action of the role's list with `DryRun`, with the tags that Backstop sends. `DryRunOperation` means allowed, `UnauthorizedOperation` denied; any other answer is `not_checked`.",
    unseen: "Actions on resources that do not exist yet (state `later`), and actions of IAM, which has no dry run. The answers hold for the principal that asked.",
    todo: "compare the role's policy with the module that grants the action, and look for a denial by a service control policy or a permissions boundary",
    page: "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html",
};

/// Secrets of the shards.
pub const SECRET: FirstDayCheck = FirstDayCheck {
    code: "aws-secret",
    title: "Secrets",
    why: "An unreadable or malformed secret fails every run before it reaches a server.",
    calls: "`secretsmanager:GetSecretValue` of the shard's entry; its keys are validated, and no value is printed.",
    unseen: "The login itself: `backstop check SHARD` logs in. The key policy is tested only if a key of yours encrypts the secret.",
    todo: "correct the entry as docs/lambda.md describes it",
    page: "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html",
};

/// Instances of the members.
pub const INSTANCE: FirstDayCheck = FirstDayCheck {
    code: "aws-instance",
    title: "Instances",
    why: "A member whose instance is not found, or found twice, is not backed up.",
    calls: "`ec2:DescribeInstances` by the tag `MySQL-Host`, else by private address, else by private DNS name, for each member.",
    unseen: "The server on the instance: `backstop check SHARD` asks it.",
    todo: "tag the instance, and only it, with MySQL-Host = host:port",
    page: "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html",
};

/// Volumes of the instances.
pub const VOLUMES: FirstDayCheck = FirstDayCheck {
    code: "aws-volumes",
    title: "Volumes and their devices",
    why: "A backup is refused if nothing identifies MySQL's volumes, and a recovery attaches them as `/dev/sdf` to `/dev/sdp` only.",
    calls: "`ec2:DescribeVolumes` of each instance.",
    unseen: "The server's paths and the file systems: `backstop check SHARD` compares the paths. Instance store volumes.",
    todo: "tag each volume that MySQL uses with MySQL-Mount = its mount point, or set snapshot.volume",
    page: "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html",
};

/// Keys of the volumes.
pub const KEY: FirstDayCheck = FirstDayCheck {
    code: "aws-key",
    title: "Keys",
    why: "A dry run does not test KMS. With a disabled key, or one that is pending deletion, EC2 accepts the snapshot and ends it in an error; a snapshot under the AWS managed key can never be shared with another account.",
    calls: "`kms:DescribeKey` of each key of the volumes.",
    unseen: "The decision of the key policy on EC2's own calls (`kms:ViaService`): the first completed backup and the first drill show it. The account's default key, which encrypts the root volume of a recovered instance.",
    todo: "enable the key or cancel its deletion; encrypt with a customer managed key what another account must read",
    page: "https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html",
};

/// Grants on the keys.
pub const GRANT: FirstDayCheck = FirstDayCheck {
    code: "aws-grant",
    title: "Grants",
    why: "EC2 uses a key through grants. Without one, an attached volume works until the instance stops, and does not attach again.",
    calls: "`kms:ListGrants` of each customer managed key, one page of 100.",
    unseen: "Further pages: the quota is 50,000 grants a key.",
    todo: "look for the principal that retired or revoked the grants, and attach the volume again",
    page: "https://docs.aws.amazon.com/ebs/latest/userguide/how-ebs-encryption-works.html",
};

/// Contract of the image of recoveries.
pub const IMAGE: FirstDayCheck = FirstDayCheck {
    code: "aws-image",
    title: "Image of recoveries",
    why: "An image that was deregistered, or that does not fit the instance type, fails the first recovery in an emergency.",
    calls: "`ec2:DescribeImages` and `ec2:DescribeInstanceTypes`, for `recovery.variables.ami_id` and `instance_type`, else for those of the first member's instance: state, architecture, boot mode, ENA, root device, device names, deprecation.",
    unseen: "The content: sshd, cloud-init, Python and the version of mysqld. The role checks them at the first boot of a drill.",
    todo: "name an image that is available and fits the instance type",
    page: "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html",
};

/// Quotas for the number of shards.
pub const QUOTA: FirstDayCheck = FirstDayCheck {
    code: "aws-quota",
    title: "Quotas",
    why: "A fleet reaches a quota on one day for all shards.",
    calls: "none: the configured shards and their retention are compared with AWS's default quotas of the date below.",
    unseen: "The account's own quotas, and what others use of them: see Service Quotas in the console.",
    todo: "ask AWS for a higher quota (Service Quotas) before the fleet grows to it, unless it is raised already",
    page: "https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html",
};

/// Conditional writes of the repository.
pub const REPOSITORY: FirstDayCheck = FirstDayCheck {
    code: "aws-repository",
    title: "Repository",
    why: "A bucket that refuses writes, or that lets two runs create the same object, loses backups.",
    calls: "`s3:GetObject` and `s3:ListBucket`; if the repository exists, also `s3:PutObject` and `s3:DeleteObject` of one small object below `probes`, as `backstop check` does.",
    unseen: "Writes, before `backstop init` or the first backup makes the repository.",
    todo: "compare the role's policy and the bucket's with the module `store`",
    page: "https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html",
};

/// All checks, in the order in which the first backup and the first recovery would meet them.
pub const FIRST_DAY_CHECKS: [FirstDayCheck; 12] =
    [IDENTITY, REGION, ENDPOINT, REPOSITORY, SECRET, INSTANCE, VOLUMES, ACTION, KEY, GRANT, IMAGE, QUOTA];

/// Remedy of an unanswered question.
const ASK_AGAIN: &str = "check again: AWS did not answer this question";

/// State of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerState {
    /// As expected.
    Ok,
    /// Cannot be asked before something else exists.
    Later,
    /// Works, with the described cost or risk.
    Warning,
    /// AWS did not answer the question. Never counted as good.
    NotChecked,
    /// A backup, a deletion or a recovery would fail.
    Problem,
}

/// Answer to one question of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountAnswer {
    /// Its state.
    pub state: AnswerState,
    /// Code of the check.
    pub code: &'static str,
    /// The shard, unless the answer is about the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardName>,
    /// The role whose list has the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<AwsRole>,
    /// The result, in a sentence that names the object.
    pub what: String,
    /// The remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

impl FirstDayCheck {
    /// Returns an answer in this state, with the check's own remedy if it needs one.
    pub fn answer(&self, state: AnswerState, what: impl Into<String>) -> AccountAnswer {
        let todo = match state {
            AnswerState::Ok | AnswerState::Later => None,
            AnswerState::NotChecked => Some(ASK_AGAIN.to_owned()),
            AnswerState::Warning | AnswerState::Problem => Some(self.todo.to_owned()),
        };
        AccountAnswer { state, code: self.code, shard: None, role: None, what: what.into(), todo }
    }

    /// Returns the answer that all is as expected.
    pub fn ok(&self, what: impl Into<String>) -> AccountAnswer {
        self.answer(AnswerState::Ok, what)
    }

    /// Returns an answer that is given only after something else exists.
    pub fn later(&self, what: impl Into<String>, todo: impl Into<String>) -> AccountAnswer {
        self.answer(AnswerState::Later, what).todo(todo)
    }

    /// Returns the answer that something works with a cost or a risk.
    pub fn warning(&self, what: impl Into<String>) -> AccountAnswer {
        self.answer(AnswerState::Warning, what)
    }

    /// Returns the answer that AWS did not answer.
    pub fn not_checked(&self, what: impl Into<String>) -> AccountAnswer {
        self.answer(AnswerState::NotChecked, what)
    }

    /// Returns the answer that something would fail.
    pub fn problem(&self, what: impl Into<String>) -> AccountAnswer {
        self.answer(AnswerState::Problem, what)
    }
}

impl AccountAnswer {
    /// Returns the same answer with another remedy.
    #[must_use]
    pub fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    /// Returns the same answer, about a shard.
    #[must_use]
    pub fn of_shard(self, shard: &ShardName) -> Self {
        Self { shard: Some(shard.clone()), ..self }
    }

    /// Returns the same answer, about a role.
    #[must_use]
    pub fn of_role(self, role: AwsRole) -> Self {
        Self { role: Some(role), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn checks_have_distinct_codes_and_a_page_of_aws() {
        let codes: BTreeSet<_> = FIRST_DAY_CHECKS.iter().map(|check| check.code).collect();
        assert_eq!(codes.len(), FIRST_DAY_CHECKS.len());
        for check in FIRST_DAY_CHECKS {
            assert!(check.page.starts_with("https://docs.aws.amazon.com/"), "{}", check.code);
        }
    }

    #[test]
    fn only_answers_that_need_one_have_a_remedy() {
        assert_eq!(KEY.ok("x").todo, None);
        assert_eq!(KEY.problem("x").todo.as_deref(), Some(KEY.todo));
        assert_eq!(KEY.not_checked("x").todo.as_deref(), Some(ASK_AGAIN));
        assert_eq!(KEY.later("x", "y").todo.as_deref(), Some("y"));
    }
}
