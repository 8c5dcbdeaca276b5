"""Tests of the roles' policies against the actions that docs/aws.md lists."""

import base64
import json
import re

import parliament
import pytest

from workbench import ROOT

KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-1111-1111-1111-111111111111"
# With everything that adds to a policy.
PRINT = """
run "print" {{
  variables {{
    {variables}
  }}
  assert {{
    condition     = {roles[0]} == ""
    error_message = "POLICIES ${{base64encode(jsonencode([{policies}]))}} END"
  }}
}}
"""
FULL = {
    "shard-backup": {
        "prune_principals": ["arn:aws:iam::123456789012:role/housekeeping"],
        "secret_kms_key_arn": KEY,
        "volume_kms_key_arns": [KEY],
        "volume_tag": {"key": "Role", "value": "mysql"},
        "recovery_role_arns": ["arn:aws:iam::123456789012:role/databases"],
        "bucket": {"name": "acme-backstop", "prefix": "orders", "kms_key_arn": KEY},
    },
    "shard-archiver": {"secret_kms_key_arn": KEY, "bucket": {"name": "acme-backstop", "prefix": "orders", "kms_key_arn": KEY}},
}
ROLES = {
    "shard-backup": {
        "function": "aws_iam_role_policy.function.policy", "prune": "aws_iam_role_policy.prune[0].policy",
        "scheduler": "aws_iam_role_policy.scheduler.policy", "recover": "output.recover_policy_json",
    },
    "shard-archiver": {"archiver": "aws_iam_role_policy.archiver.policy"},
}


def documented():
    """Returns the actions that Backstop calls and their purposes, from docs/aws.md."""
    text = (ROOT / "docs" / "aws.md").read_text().split("\n## IAM\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `([a-z0-9]+:\w+)` \| ([^|]*) \|", text, re.M))


@pytest.fixture
def policies(bench):
    """The statements of each role, as a plan with mocks gives them."""
    return {role: statements for module in ROLES for role, statements in planned(bench, module).items()}


def planned(bench, module):
    folder = f"modules/{module}"
    tests = bench.folder / folder / "tests" / "plan.tftest.hcl"
    roles = ROLES[module]
    print_them = PRINT.format(
        variables="\n    ".join(f"{name} = {json.dumps(value)}" for name, value in FULL[module].items()),
        roles=list(roles.values()),
        policies=", ".join(roles.values()),
    )
    tests.write_text(tests.read_text().split("\nrun ", 1)[0] + print_them)
    bench.terraform(folder, "init", "-no-color", "-backend=false")
    said = bench.terraform(folder, "test", "-no-color", check=False).stdout
    packed = re.search(r"POLICIES\s+(.*?)\s+END", said, re.S)
    assert packed, said
    found = json.loads(base64.b64decode(re.sub(r"\s", "", packed[1])))
    return {role: json.loads(policy)["Statement"] for role, policy in zip(roles, found)}


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
    archiver = allowed(policies["archiver"])
    assert {action for action in archiver if action.startswith("ec2:")} == {"ec2:DescribeSnapshots"}, "`backstop status` asks for them"
    assert allowed(policies["scheduler"]) == {"lambda:InvokeFunction", "sqs:SendMessage"}


def test_nothing_is_allowed_on_everything_but_descriptions(policies):
    for role, statements in policies.items():
        for one in statements:
            if one["Effect"] == "Allow" and one["Resource"] == ["*"] and one["Sid"] not in ("JoinNetwork", "ReportHealth"):
                assert all(":Describe" in action for action in one["Action"]), f"{role}: {one['Sid']}"
            assert not any(action.endswith(":*") for action in one["Action"]), f"{role}: {one['Sid']}"


def test_what_changes_snapshots_is_bound_to_this_clusters(policies):
    for role in ("function", "prune"):
        for one in policies[role]:
            if one["Effect"] != "Allow" or not {"ec2:CreateTags", "ec2:DeleteSnapshot"} & set(one["Action"]):
                continue
            conditions = json.dumps(one["Condition"])
            assert '"aws:ResourceTag/Cluster-name": "orders"' in conditions or '"ec2:CreateAction": "CreateSnapshots"' in conditions, one


def test_recovering_is_bound_to_its_own_resources(policies):
    """Descriptions, the network and images apart, every statement needs the tags of a recovery of this cluster."""
    for one in policies["recover"]:
        if one["Sid"] in ("Describe", "UseNetwork", "UseImages", "TagAtCreation", "PassInstanceRoles") or one["Action"][0].startswith("kms:"):
            continue
        conditions = json.dumps(one["Condition"])
        assert "Tag/Cluster-name" in conditions and ("Tag/Backstop-Recovery" in conditions or "Tag/Backstop-State" in conditions), one
    (passed,) = [one for one in policies["recover"] if "iam:PassRole" in one["Action"]]
    assert passed["Resource"] == ["arn:aws:iam::123456789012:role/databases"]
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_ebs_has_all_actions_on_the_volume_keys(policies):
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html"""
    for role in ("function", "recover"):
        actions = {action for one in policies[role] if "ec2.eu-central-1.amazonaws.com" in json.dumps(one.get("Condition", {})) for action in one["Action"]}
        assert actions == {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"}


# Findings of the linter that are intended, with the reasons.
MEANT = (
    # The two kinds of resource are in two statements, since only the snapshot carries the tags of the request.
    ("RESOURCE_MISMATCH", "ec2:CreateSnapshots"),
    # AWS's own advice for a function in a VPC; the code in the function is denied the same.
    ("RESOURCE_STAR", "ec2:CreateNetworkInterface"),
    ("UNKNOWN_CONDITION_FOR_ACTION", "lambda:SourceFunctionArn"),
)


def complaints(statements):
    """Returns the findings of a linter with AWS's list of actions, resources and condition keys."""
    policy = parliament.analyze_policy_string(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    return [(found.issue, str(found.detail)) for found in policy.findings]


def test_actions_resources_and_conditions_are_ones_that_aws_knows(policies):
    assert len(policies) == 5
    for role, statements in policies.items():
        unmeant = [
            (issue, detail) for issue, detail in complaints(statements)
            if not any(issue == meant and word in detail for meant, word in MEANT) and (role, issue) != ("recover", "RESOURCE_MISMATCH")
        ]
        assert unmeant == [], f"{role}: " + "\n".join(map(str, unmeant))
        assert len(json.dumps(statements)) < 8_000, f"{role}: IAM takes 10,240 characters"


def merged(statements):
    """Returns a statement for each action with the resources of all statements: those of one call have different conditions."""
    found = {}
    for one in statements:
        for action in one["Action"]:
            found.setdefault(action, set()).update(one["Resource"])
    return [{"Sid": f"S{number}", "Effect": "Allow", "Action": [action], "Resource": sorted(resources)} for number, (action, resources) in enumerate(found.items())]


def test_each_call_of_a_recovery_has_all_its_resources(policies):
    mismatched = lambda statements: [found for found in complaints(merged(statements)) if found[0] == "RESOURCE_MISMATCH"]
    assert mismatched(policies["recover"]) == []
    for sid in ("UseImages", "RunOnOwnInterfaces", "ChangeOwnVolumes", "CreateTaggedResources"):
        assert mismatched([one for one in policies["recover"] if one["Sid"] != sid]), sid


@pytest.mark.parametrize(
    "old, new, issue",
    [
        ("ec2:CreateAction", "ec2:CreationAction", "UNKNOWN_CONDITION_FOR_ACTION"),
        ('"ec2:DescribeVolumes"', '"ec2:DescribeVolume"', "UNKNOWN_ACTION"),
        ("ec2:eu-central-1::snapshot/*", "ec2:eu-central-1:123456789012:snap/*", "RESOURCE_MISMATCH"),
    ],
)
def test_a_mistake_in_a_policy_is_found(policies, old, new, issue):
    """The negative control of the test above."""
    text = json.dumps(policies["function"])
    assert old in text
    found = [one for one in complaints(json.loads(text.replace(old, new))) if not any(word in one[1] for _, word in MEANT)]
    assert issue in [one[0] for one in found], found
