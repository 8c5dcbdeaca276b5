//! `check --aws` by the real program, against the strict fake of EC2. The fake speaks neither STS
//! nor KMS: the tests of `backstop-aws` cover those with moto.

use serde_json::Value;

use super::Fleet;

fn answers(report: &Value, code: &str, state: &str) -> Vec<String> {
    let all = report["answers"].as_array().unwrap();
    let fits = all.iter().filter(|answer| answer["code"] == code && answer["state"] == state);
    fits.map(|answer| answer["what"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_an_account_reports_each_action_of_the_role() {
    let fleet = Fleet::start().await;
    let run = "--json check --aws orders --role function";
    let ran = fleet.backstop.run(run).await;
    assert_eq!(ran.status.code(), Some(1), "the identity was not told: {ran}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["ok"], false);
    let allowed = answers(&report, "aws-action", "ok").join("\n");
    for action in
        ["ec2:DescribeInstances", "ec2:DescribeVolumes", "ec2:DescribeSnapshots", "ec2:CreateSnapshots"]
    {
        assert!(allowed.contains(action), "{action}: {report}");
    }
    assert_eq!(answers(&report, "aws-identity", "ok"), [""; 0]);
    assert_eq!(answers(&report, "aws-repository", "later").len(), 1, "{report}");

    fleet.ec2.with(|ec2| ec2.rules.denied = ["CreateTags".to_owned()].into());
    let ran = fleet.backstop.run(run).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let denied = answers(&report, "aws-action", "problem").join("\n");
    assert!(
        denied.contains("ec2:CreateSnapshots is denied") && denied.contains("ec2:CreateTags"),
        "{report}"
    );
    let shown = fleet.backstop.run("check --aws --all --role function --role prune").await;
    assert_eq!(shown.status.code(), Some(1), "{shown}");
    for part in ["Account", "Shard orders", "PROBLEM", "prune: ", "[aws-action]", "see PROBLEM"] {
        assert!(shown.out.contains(part), "{part}: {shown}");
    }
    assert!(fleet.snapshots().is_empty());
    assert!(!fleet.ec2.with(|ec2| ec2.calls.iter().any(|call| call == "CreateSnapshots")));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_an_account_tests_the_repository() {
    let mut fleet = Fleet::start().await;
    fleet.backstop.json("backup orders").await;
    let run = "--json check --aws orders --role archiver";
    let report: Value = serde_json::from_str(&fleet.backstop.run(run).await.out).unwrap();
    assert_eq!(answers(&report, "aws-repository", "ok").len(), 1, "{report}");
    std::fs::remove_dir_all(&fleet.backstop.repository).unwrap();
    fleet.backstop.environment.push(("BACKSTOP_REPOSITORY_CREATE", "never".to_owned()));
    let report: Value = serde_json::from_str(&fleet.backstop.run(run).await.out).unwrap();
    assert_eq!(answers(&report, "aws-repository", "problem").len(), 1, "{report}");
    fleet.backstop.run("check --aws").await.failed(2, &["--all"]);
    fleet.backstop.run("check --role prune orders").await.failed(2, &["--aws"]);
    fleet.without("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_REGION");
    fleet.backstop.run("check --aws orders").await.failed(2, &["region", "AWS_REGION"]);
}
