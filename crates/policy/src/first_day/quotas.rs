//! Default quotas of AWS against the number of shards.

use backstop_config::retention::Retention;

use super::{AccountAnswer, QUOTA};

/// Date of the quotas. A test holds them equal to `testing/terraform/quotas.toml`.
pub const QUOTAS_DATE: &str = "2026-11-30";

/// A default quota of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultQuota {
    /// Its name in `testing/terraform/quotas.toml`.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// The scope that it is counted in.
    pub per: &'static str,
    /// AWS's page.
    pub page: &'static str,
}

/// Snapshots that are kept.
const SNAPSHOTS: DefaultQuota = DefaultQuota {
    name: "snapshots",
    value: 100_000,
    per: "Region",
    page: "docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html",
};

/// Functions that run at the same time, if all shards are backed up in the same minute.
const CONCURRENT: DefaultQuota = DefaultQuota {
    name: "lambda_concurrent_executions",
    value: 900,
    per: "Region",
    page: "docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html",
};

/// An alarm for each shard of a fleet, and two for each archiver.
const ALARMS: DefaultQuota = DefaultQuota {
    name: "alarms",
    value: 5_000,
    per: "Region",
    page: "docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html",
};

/// A role for each archiver.
const ROLES: DefaultQuota = DefaultQuota {
    name: "roles",
    value: 1_000,
    per: "account",
    page: "docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html",
};

/// The quotas that shards use up.
pub const SHARD_QUOTAS: [DefaultQuota; 4] = [SNAPSHOTS, CONCURRENT, ALARMS, ROLES];

/// Facts of a shard that count against quotas.
#[derive(Debug, Clone, Copy)]
pub struct ShardUsage<'a> {
    /// Its retention; `None`: it keeps all.
    pub retention: Option<&'a Retention>,
    /// Seconds between two of its backups, if it has a schedule.
    pub interval_seconds: Option<u64>,
    /// Its volumes.
    pub volumes: u64,
    /// True if it has an archiver.
    pub archived: bool,
}

/// Compares the shards with the quotas.
pub fn quota_answers(shards: &[ShardUsage<'_>]) -> Vec<AccountAnswer> {
    let archivers = shards.iter().filter(|shard| shard.archived).count() as u64;
    let count = shards.len() as u64;
    let mut answers: Vec<_> =
        [(CONCURRENT, count), (ALARMS, count + 2 * archivers), (ROLES, archivers)].map(compared).into();
    let kept =
        shards.iter().map(|shard| Some(kept(shard.retention?, shard.interval_seconds) * shard.volumes));
    match kept.collect::<Option<Vec<_>>>() {
        Some(kept) => answers.push(compared((SNAPSHOTS, kept.into_iter().sum()))),
        None => answers.push(
            QUOTA
                .warning(format!(
                    "snapshots: a shard has no retention and keeps all; AWS's default of {QUOTAS_DATE} is {} for each {}",
                    SNAPSHOTS.value, SNAPSHOTS.per
                ))
                .todo("set `retention` for every shard"),
        ),
    }
    answers
}

fn compared((quota, used): (DefaultQuota, u64)) -> AccountAnswer {
    let what = format!(
        "{}: the configured shards use up to {used}; AWS's default of {QUOTAS_DATE} is {} for each {} ({})",
        quota.name.replace('_', " "),
        quota.value,
        quota.per,
        quota.page
    );
    if used > quota.value { QUOTA.warning(what) } else { QUOTA.ok(what) }
}

/// Returns the largest number of backups that a retention keeps.
fn kept(retention: &Retention, interval_seconds: Option<u64>) -> u64 {
    let interval = interval_seconds.unwrap_or(86_400).max(1);
    let recent = retention.keep_all.as_secs().div_ceil(interval) + 1;
    recent + u64::from(retention.daily) + u64::from(retention.weekly) + u64::from(retention.monthly)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::first_day::AnswerState;

    fn retention() -> Retention {
        let keep_all = Duration::from_secs(48 * 3600);
        Retention { keep_all, daily: 14, weekly: 8, monthly: 12, binlogs: None }
    }

    fn warned(shards: &[ShardUsage<'_>]) -> Vec<String> {
        let answers = quota_answers(shards);
        assert_eq!(answers.len(), SHARD_QUOTAS.len());
        let warned = answers.into_iter().filter(|answer| answer.state == AnswerState::Warning);
        warned.map(|answer| answer.what.split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn fleet_that_passes_a_quota_is_warned() {
        let kept = retention();
        let shard = |volumes, archived| ShardUsage {
            retention: Some(&kept),
            interval_seconds: Some(3600),
            volumes,
            archived,
        };
        assert_eq!(warned(&[shard(1, true); 10]), [""; 0]);
        assert_eq!(warned(&[shard(1, false); 900]), [""; 0]);
        assert_eq!(warned(&[shard(1, false); 901]), ["lambda concurrent executions"]);
        assert_eq!(warned(&[shard(1, true); 1001]), ["lambda concurrent executions", "roles"]);
        assert_eq!(
            warned(&[shard(1, true); 1700]),
            ["lambda concurrent executions", "alarms", "roles", "snapshots"]
        );
        // 49 + 14 + 8 + 12 backups of 2 volumes.
        assert_eq!(warned(&[shard(2, false); 602]), [""; 0]);
        assert_eq!(warned(&[shard(2, false); 603]), ["snapshots"]);
        assert_eq!(warned(&[ShardUsage { retention: None, ..shard(1, false) }]), ["snapshots"]);
    }

    #[test]
    fn quotas_are_those_that_the_modules_are_tested_with() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testing/terraform/quotas.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("\ndate = {QUOTAS_DATE}\n")));
        for quota in SHARD_QUOTAS {
            let table = text.split(&format!("\n[{}]\n", quota.name)).nth(1).unwrap();
            let table = table.split("\n[").next().unwrap();
            assert!(table.contains(&format!("value = {}\n", quota.value)), "{table}");
            assert!(table.contains(&format!("page = \"{}\"", quota.page)), "{table}");
            assert!(table.contains(&format!("per = \"{}\"\n", quota.per)), "{table}");
        }
    }
}
