"""What the roles may do is what Backstop does: compared with the actions that docs/aws.md lists."""

import base64
import json
import re

import pytest

from workbench import ROOT

PRINT = """
run "print" {
  variables {
    prune_principals = ["arn:aws:iam::123456789012:role/housekeeping"]
  }
  assert {
    condition     = aws_iam_role_policy.function.policy == ""
    error_message = "POLICIES ${base64encode(jsonencode({ function = aws_iam_role_policy.function.policy, prune = aws_iam_role_policy.prune[0].policy, scheduler = aws_iam_role_policy.scheduler.policy }))} END"
  }
}
"""


def documented():
    """Action → for which Backstop calls it, as docs/aws.md says."""
    text = (ROOT / "docs" / "aws.md").read_text().split("\n## IAM\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `([a-z0-9]+:\w+)` \| ([^|]*) \|", text, re.M))


@pytest.fixture
def policies(bench):
    """The statements of each role, as a plan with mocks gives them."""
    folder = bench.folder / "modules" / "shard-backup"
    tests = folder / "tests" / "plan.tftest.hcl"
    head = tests.read_text().split("\nrun ", 1)[0]
    tests.write_text(head + PRINT)
    bench.terraform("modules/shard-backup", "init", "-no-color", "-backend=false")
    said = bench.terraform("modules/shard-backup", "test", "-no-color", check=False).stdout
    packed = re.search(r"POLICIES\s+(.*?)\s+END", said, re.S)
    assert packed, said
    found = json.loads(base64.b64decode(re.sub(r"\s", "", packed[1])))
    return {role: json.loads(policy)["Statement"] for role, policy in found.items()}


def allowed(statements):
    return {action for one in statements if one["Effect"] == "Allow" for action in one["Action"]}


def denied(statements):
    return {action for one in statements if one["Effect"] == "Deny" for action in one["Action"]}


def test_the_function_may_do_what_backstop_calls_and_no_more(policies):
    called = set(documented())
    assert {"ec2:CreateSnapshots", "secretsmanager:GetSecretValue"} <= called, "docs/aws.md has the table"
    function = policies["function"]
    of_backstop = {action for action in allowed(function) - denied(function) if action.split(":")[0] in ("ec2", "secretsmanager")}
    assert of_backstop == called


def test_what_is_for_prune_is_in_its_role(policies):
    prune = allowed(policies["prune"])
    assert {"ec2:DescribeSnapshots", "ec2:DeleteSnapshot", "s3:DeleteObject"} <= prune
    assert not prune & {"ec2:CreateSnapshots", "ec2:CreateTags", "secretsmanager:GetSecretValue"}
    assert allowed(policies["scheduler"]) == {"lambda:InvokeFunction", "sqs:SendMessage"}


def test_nothing_is_allowed_on_everything_but_descriptions(policies):
    for role, statements in policies.items():
        for one in statements:
            if one["Effect"] == "Allow" and one["Resource"] == ["*"] and one["Sid"] != "JoinNetwork":
                assert all(":Describe" in action for action in one["Action"]), f"{role}: {one['Sid']}"
            assert not any(action.endswith(":*") for action in one["Action"]), f"{role}: {one['Sid']}"


def test_what_changes_snapshots_is_bound_to_this_clusters(policies):
    for role in ("function", "prune"):
        for one in policies[role]:
            if one["Effect"] != "Allow" or not {"ec2:CreateTags", "ec2:DeleteSnapshot"} & set(one["Action"]):
                continue
            conditions = json.dumps(one["Condition"])
            assert '"aws:ResourceTag/Cluster-name": "orders"' in conditions or '"ec2:CreateAction": "CreateSnapshots"' in conditions, one
