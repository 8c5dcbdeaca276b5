"""Tests of the roles' policies against the actions that docs/aws.md lists."""

import json
import re

import parliament
import pytest

import states
from evaluate import allows
from workbench import ROOT

KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-1111-1111-1111-111111111111"
BOUNDARY = "arn:aws:iam::123456789012:policy/backstop-instances"
DATABASES = "arn:aws:iam::123456789012:role/databases"
# With everything that adds to a policy.
FULL = {
    "shard-backup": {
        "prune_principals": ["arn:aws:iam::123456789012:role/housekeeping"],
        "secret_kms_key_arn": KEY,
        "volume_kms_key_arns": [KEY],
        "volume_tag": {"key": "Role", "value": "mysql"},
        "recovery_role_arns": [DATABASES],
        "recovery_profile_boundary_arn": BOUNDARY,
        "bucket": {"name": "acme-backstop", "prefix": "orders", "kms_key_arn": KEY},
    },
    "shard-archiver": {"secret_kms_key_arn": KEY, "bucket": {"name": "acme-backstop", "prefix": "orders", "kms_key_arn": KEY}},
    "completion": {
        "secret_kms_key_arns": [KEY],
        "repositories": [{"name": "acme-backstop", "kms_key_arn": KEY}],
        "subnet_ids": ["subnet-0123456789abcdef0"],
        "security_group_ids": ["sg-0123456789abcdef0"],
    },
    "fleet-backup": {
        "prune_principals": ["arn:aws:iam::123456789012:role/housekeeping"],
        "secret_kms_key_arns": [KEY],
        "volume_kms_key_arns": [KEY],
        "recovery_role_arns": [DATABASES],
        "repositories": [{"name": "acme-backstop", "kms_key_arn": KEY}, {"name": "acme-old", "prefix": "orders"}],
    },
    "recovered-instance": {
        "fast_restore_zones": ["eu-central-1b"],
        "instance_access": {
            "secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/orders-AbCdEf", "secret_kms_key_arn": KEY,
            "bucket": {"name": "acme-backstop", "prefix": "orders", "kms_key_arn": KEY},
            "package": {"s3_bucket": "acme-artifacts", "s3_key": "backstop"}, "permissions_boundary": BOUNDARY,
        },
    },
    "store": {},
    "endpoints": {},
}
EXTRA = {"CostCentre": "4711"}
# Inline policies by role: (module, resource), and policies that are outputs.
INLINE = {
    "function": ("shard-backup", "aws_iam_role_policy.function"), "prune": ("shard-backup", "aws_iam_role_policy.prune[0]"),
    "scheduler": ("shard-backup", "aws_iam_role_policy.scheduler"), "archiver": ("shard-archiver", "aws_iam_role_policy.archiver"),
    "completion": ("completion", "aws_iam_role_policy.function"), "sweep": ("completion", "aws_iam_role_policy.scheduler"),
    "fleet": ("fleet-backup", "aws_iam_role_policy.function"), "fleet_prune": ("fleet-backup", "aws_iam_role_policy.prune[0]"),
    "fleet_scheduler": ("fleet-backup", "aws_iam_role_policy.scheduler"),
    "instance": ("recovered-instance", "aws_iam_role_policy.instance[0]"),
}
OUTPUTS = {
    "recover": ("shard-backup", "recover_policy_json"), "drill": ("shard-backup", "drill_policy_json"),
    "fleet_recover": ("fleet-backup", "recover_policy_json"), "fleet_drill": ("fleet-backup", "drill_policy_json"),
    "check": ("shard-backup", "check_policy_json"), "fleet_check": ("fleet-backup", "check_policy_json"),
}


def documented():
    """Returns the actions that Backstop calls and their purposes, from docs/aws.md."""
    text = (ROOT / "docs" / "aws.md").read_text().split("\n## IAM\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `([a-z0-9]+:\w+)` \| ([^|]*) \|", text, re.M))


@pytest.fixture(scope="module")
def made(shared_bench):
    """The resources and outputs of each module after an apply with mocks."""
    return {module: states.of_module(shared_bench, module, variables | {"extra_tags": EXTRA}) for module, variables in FULL.items()}


@pytest.fixture(scope="module")
def policies(made):
    """The statements of each role."""
    inline = {role: {one["address"]: one["values"] for one in made[module][0]}[address]["policy"] for role, (module, address) in INLINE.items()}
    outputs = {role: made[module][1][name] for role, (module, name) in OUTPUTS.items()}
    return {role: json.loads(policy)["Statement"] for role, policy in (inline | outputs).items()}


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


def asked(title):
    """Returns the actions that `backstop check --aws` asks for, from a section of docs/first-day.md, which is generated from the program."""
    text = (ROOT / "docs" / "first-day.md").read_text().split(f"\n### {title}\n", 1)[1].split("\n##", 1)[0]
    return set(re.findall(r"^\| `([a-z0-9]+:\w+)` \|", text, re.M))


@pytest.mark.parametrize("role", ["function", "completion", "prune", "archiver", "recover", "drill"])
def test_the_check_asks_for_each_action_of_the_role(policies, role):
    # Lambda attaches the function to the network, and its code is denied that. Of IAM only the passed role is listed.
    own = {action for action in allowed(policies[role]) - denied(policies[role]) if action.split(":")[0] in ("ec2", "secretsmanager")}
    passed = {"iam:PassRole"} & allowed(policies[role])
    assert asked(f"Role {role}") == own | passed


def test_the_check_itself_may_only_read(policies):
    for role in ("check", "fleet_check"):
        assert allowed(policies[role]) == asked("The command")
        assert all(action.split(":")[1].startswith(("Describe", "List")) for action in allowed(policies[role]))


def test_the_completion_does_less(policies):
    completion = policies["completion"]
    of_backstop = {action for action in allowed(completion) - denied(completion) if action.split(":")[0] in ("ec2", "secretsmanager")}
    assert of_backstop == {"ec2:DescribeSnapshots", "ec2:CreateTags", "secretsmanager:GetSecretValue"}
    assert not {action for action in allowed(completion) if "Delete" in action} - {"sqs:DeleteMessage", "ec2:DeleteNetworkInterface"}


def test_what_is_for_prune_is_in_its_role(policies):
    prune = allowed(policies["prune"])
    assert {"ec2:DescribeSnapshots", "ec2:DeleteSnapshot", "s3:DeleteObject"} <= prune
    assert not prune & {"ec2:CreateSnapshots", "ec2:CreateTags", "secretsmanager:GetSecretValue"}
    archiver = allowed(policies["archiver"])
    assert {action for action in archiver if action.startswith("ec2:")} == {"ec2:DescribeSnapshots"}, "`backstop status` asks for them"
    for scheduler in ("sweep", "fleet_scheduler"):
        assert allowed(policies[scheduler]) == {"lambda:InvokeFunction", "sqs:SendMessage"}
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
            assert '"aws:ResourceTag/Cluster-name": ["orders"]' in conditions or '"ec2:CreateAction": "CreateSnapshots"' in conditions, one


def test_recovering_is_bound_to_its_own_resources(policies):
    """Descriptions, the network and images apart, every statement needs the tags of a recovery of this cluster."""
    for one in policies["recover"]:
        if one["Sid"] in ("Describe", "UseNetwork", "UseImages", "TagAtCreation", "PassInstanceRoles", "MakeBoundedRoles", "ManageMadeRoles", "ManageMadeProfiles") or one["Action"][0].startswith("kms:"):
            continue
        conditions = json.dumps(one["Condition"])
        assert "Tag/Cluster-name" in conditions and ("Tag/Backstop-Recovery" in conditions or "Tag/Backstop-State" in conditions), one
    (passed,) = [one for one in policies["recover"] if "iam:PassRole" in one["Action"]]
    assert passed["Resource"] == [DATABASES, "arn:aws:iam::123456789012:role/backstop-recovered-*"]
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_ebs_has_all_actions_on_the_volume_keys(policies):
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html"""
    for role in ("function", "recover", "drill", "fleet", "fleet_recover", "fleet_drill"):
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
    assert len(policies) == 16
    for role, statements in policies.items():
        unmeant = [
            (issue, detail) for issue, detail in complaints(statements)
            if not any(issue == meant and word in detail for meant, word in MEANT) and not (issue == "RESOURCE_MISMATCH" and role in OUTPUTS)
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


def without_extra_tags(resources):
    """Returns the addresses of resources that can have tags and lack the extra ones, and of disks of instances."""
    taggable = [(one["address"], one["values"]) for one in resources if "tags" in one["values"]]
    disks = [(f"{address}: disk", disk) for address, values in taggable for disk in values.get("root_block_device", [])]
    return [address for address, values in taggable + disks if not EXTRA.items() <= (values["tags"] or {}).items()]


def test_the_extra_tags_are_on_everything(made):
    for module, (resources, _) in made.items():
        assert len([one for one in resources if "tags" in one["values"]]) >= 1, module
        assert without_extra_tags(resources) == [], module
    bare = json.loads(json.dumps(made["shard-backup"][0]))
    bare[-1]["values"]["tags"] = {"Name": "x"}
    assert without_extra_tags(bare) == [bare[-1]["address"]]


@pytest.mark.parametrize("module, address", [("shard-backup", "aws_lambda_function.backup"), ("fleet-backup", "aws_lambda_function.backup")])
def test_the_extra_tags_are_given_to_the_function_for_the_snapshots(made, module, address):
    (function,) = [one["values"] for one in made[module][0] if one["address"] == address]
    assert json.loads(function["environment"][0]["variables"]["BACKSTOP_SNAPSHOT_TAGS"]) == EXTRA


# Requests, as EC2 and IAM put them to the policies: the condition keys of
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
SNAPSHOT = "arn:aws:ec2:eu-central-1::snapshot/snap-0123456789abcdef0"
INSTANCE = "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0"
VOLUME = "arn:aws:ec2:eu-central-1:123456789012:volume/vol-0123456789abcdef0"
URL = "s3://acme-backstop"
ORDERS = {"Cluster-name": "orders", "Backstop-Repository": URL, "Backstop-Secret": "prod/orders"}
UNPROVEN, PROVEN = ORDERS | {"Backstop-State": "unproven"}, ORDERS | {"Backstop-State": "proven"}
FOREIGN = {"Name": "payroll"}
OTHER = {"Cluster-name": "customers", "Backstop-Repository": "s3://elsewhere", "Backstop-State": "proven"}


def has(tags):
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}


def asks(tags, **more):
    return {f"aws:RequestTag/{key}": value for key, value in tags.items()} | {"aws:TagKeys": list(tags)} | more


def tagged(statements, has_tags, new):
    """CreateTags on a snapshot that exists."""
    return allows(statements, "ec2:CreateTags", {SNAPSHOT: has(has_tags)}, asks(new))


@pytest.mark.parametrize("role", ["function", "fleet"])
def test_a_function_backs_up(policies, role):
    mine = policies[role]
    born = asks(UNPROVEN)
    parts = {VOLUME: has({"Role": "mysql"}), INSTANCE: has({"Role": "mysql"}), SNAPSHOT: born}
    assert allows(mine, "ec2:CreateSnapshots", parts, born)
    assert allows(mine, "ec2:CreateTags", {SNAPSHOT: {}}, born | {"ec2:CreateAction": "CreateSnapshots"})
    assert tagged(mine, UNPROVEN, {"Backstop-Volume": "gp3"}) and tagged(mine, UNPROVEN, {"Backstop-State": "proven"})
    assert allows(mine, "ec2:DeleteSnapshot", {SNAPSHOT: has(UNPROVEN)})


@pytest.mark.parametrize("role", ["function", "fleet"])
def test_a_function_cannot_do_more(policies, role):
    mine = policies[role]
    for tags in ({**UNPROVEN, "Backstop-State": "proven"}, {**UNPROVEN, "Backstop-Completion": "completed"}, {"Backstop-State": "unproven"},
                 UNPROVEN | {"Cluster-name": "customers", "Backstop-Repository": "s3://elsewhere"}):
        born = asks(tags)
        assert not allows(mine, "ec2:CreateSnapshots", {VOLUME: has({"Role": "mysql"}), INSTANCE: has({"Role": "mysql"}), SNAPSHOT: born}, born), tags
    assert not tagged(mine, PROVEN, {"Backstop-State": "unproven"})
    assert not tagged(mine, PROVEN, {"Backstop-Volume": "gp3"})
    assert not tagged(mine, UNPROVEN, {"Backstop-Volume": "gp3", "Cluster-name": "customers"})
    assert not tagged(mine, UNPROVEN, {"Backstop-Completion": "completed"})
    for strange in (FOREIGN, OTHER, OTHER | {"Backstop-State": "unproven"}):
        assert not tagged(mine, strange, {"Backstop-State": "proven"}) and not tagged(mine, strange, {"Backstop-Volume": "gp3"})
        assert not allows(mine, "ec2:DeleteSnapshot", {SNAPSHOT: has(strange)}), strange
    assert not allows(mine, "ec2:DeleteSnapshot", {SNAPSHOT: has(PROVEN)})
    assert not allows(mine, "secretsmanager:GetSecretValue", {"arn:aws:secretsmanager:eu-central-1:123456789012:secret:payroll-AbCdEf": {}})
    of_itself = {"lambda:SourceFunctionArn": f"arn:aws:lambda:eu-central-1:123456789012:function:backstop-{'orders' if role == 'function' else 'fleet'}"}
    assert not allows(mine, "ec2:DeleteNetworkInterface", {"arn:aws:ec2:eu-central-1:123456789012:network-interface/eni-1": of_itself})
    assert allows(mine, "ec2:DeleteNetworkInterface", {"arn:aws:ec2:eu-central-1:123456789012:network-interface/eni-1": {}}), "Lambda itself"


def test_the_function_of_a_shard_snapshots_tagged_volumes_only(policies):
    born = asks(UNPROVEN)
    assert not allows(policies["function"], "ec2:CreateSnapshots", {VOLUME: {}, INSTANCE: has({"Role": "mysql"}), SNAPSHOT: born}, born)


def test_the_completion_sets_its_tag_and_no_other(policies):
    mine = policies["completion"]
    assert tagged(mine, PROVEN, {"Backstop-Completion": "completed"}) and tagged(mine, PROVEN, {"Backstop-Completion": "failed"})
    assert not tagged(mine, PROVEN, {"Backstop-Completion": "perhaps"})
    assert not tagged(mine, PROVEN, {"Backstop-Completion": "completed", "Backstop-State": "unproven"})
    assert not tagged(mine, PROVEN, {"Backstop-State": "unproven"}) and not tagged(mine, PROVEN, {})
    for strange in (FOREIGN, UNPROVEN):
        assert not tagged(mine, strange, {"Backstop-Completion": "completed"})
    assert not allows(mine, "ec2:DeleteSnapshot", {SNAPSHOT: has(PROVEN)})
    assert not allows(mine, "s3:DeleteObject", {"arn:aws:s3:::acme-backstop/shards/orders/manifests/1": {}})


@pytest.mark.parametrize("role", ["prune", "fleet_prune"])
def test_deletion_is_of_own_snapshots(policies, role):
    assert allows(policies[role], "ec2:DeleteSnapshot", {SNAPSHOT: has(PROVEN)})
    for strange in (FOREIGN, OTHER, {"Cluster-name": "orders", "Backstop-Repository": URL}):
        assert not allows(policies[role], "ec2:DeleteSnapshot", {SNAPSHOT: has(strange)}), strange


def recovery(name, cluster="orders"):
    return {"Cluster-name": cluster, "Backstop-Recovery": name}


@pytest.mark.parametrize("role", ["recover", "fleet_recover", "drill", "fleet_drill"])
def test_recoveries_and_drills_touch_their_own(policies, role):
    mine, drill = policies[role], role.endswith("drill")
    name = "drill-1" if drill else "orders-1"
    for action in ("ec2:TerminateInstances", "ec2:StopInstances", "ec2:ModifyInstanceAttribute"):
        assert allows(mine, action, {INSTANCE: has(recovery(name))})
        assert not allows(mine, action, {INSTANCE: has({"Name": "db1", "Cluster-name": "orders"})}), "an instance without Backstop's tags"
        assert allows(mine, action, {INSTANCE: has(recovery("orders-1"))}) != drill, "a drill touches no recovery"
    new = asks(recovery(name))
    assert allows(mine, "ec2:CreateVolume", {VOLUME: new, SNAPSHOT: has(PROVEN)})
    assert not allows(mine, "ec2:CreateVolume", {VOLUME: new, SNAPSHOT: has(FOREIGN)})
    assert not allows(mine, "ec2:CreateVolume", {VOLUME: asks({"Cluster-name": "orders"}), SNAPSHOT: has(PROVEN)})
    assert not tagged(mine, PROVEN, {"Backstop-State": "unproven"})
    assert not allows(mine, "ec2:CreateTags", {INSTANCE: has({"Name": "db1"})}, asks(recovery(name))), "it does not adopt an instance"
    assert not allows(mine, "ec2:DeleteSnapshot", {SNAPSHOT: has(PROVEN)})
    assert allows(mine, "ec2:EnableFastSnapshotRestores", {SNAPSHOT: has(PROVEN)}) != drill
    to_ec2, to_lambda = {"iam:PassedToService": "ec2.amazonaws.com"}, {"iam:PassedToService": "lambda.amazonaws.com"}
    assert allows(mine, "iam:PassRole", {DATABASES: to_ec2})
    assert not allows(mine, "iam:PassRole", {DATABASES: to_lambda})
    assert not allows(mine, "iam:PassRole", {"arn:aws:iam::123456789012:role/administrators": to_ec2})


def test_a_recovery_of_a_shard_touches_no_other_cluster(policies):
    for role in ("recover", "drill"):
        assert not allows(policies[role], "ec2:TerminateInstances", {INSTANCE: has(recovery("drill-1", "customers"))})
        assert not allows(policies[role], "ec2:CreateVolume", {VOLUME: asks(recovery("drill-1")), SNAPSHOT: has(OTHER)})


def test_a_backstop_on_an_instance_reads_its_repository_and_secret(policies):
    mine, secret = policies["instance"], "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/{}-AbCdEf"
    through = {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com", "kms:EncryptionContext:SecretARN": secret.format("orders")}
    assert allows(mine, "secretsmanager:GetSecretValue", {secret.format("orders"): {}}) and allows(mine, "kms:Decrypt", {KEY: through})
    assert not allows(mine, "secretsmanager:GetSecretValue", {secret.format("customers"): {}}) and not allows(mine, "kms:Decrypt", {KEY: {}})
    for key, readable in (("orders/shards/orders/manifests/1", True), ("customers/shards/customers/manifests/1", False)):
        assert allows(mine, "s3:GetObject", {f"arn:aws:s3:::acme-backstop/{key}": {}}) == readable
        for action in ("s3:PutObject", "s3:DeleteObject"):
            assert not allows(mine, action, {f"arn:aws:s3:::acme-backstop/{key}": {}})
    assert allows(mine, "s3:GetObject", {"arn:aws:s3:::acme-artifacts/backstop": {}})
    assert not allows(mine, "s3:GetObject", {"arn:aws:s3:::acme-artifacts/other": {}})
    assert not {action for action in allowed(mine) if action.startswith(("ec2:", "iam:", "sts:"))}


def test_a_recovery_makes_roles_within_the_boundary_only(policies):
    mine, made = policies["recover"], "arn:aws:iam::123456789012:role/backstop-recovered-orders-1"
    for action in ("iam:CreateRole", "iam:PutRolePolicy"):
        assert allows(mine, action, {made: {"iam:PermissionsBoundary": BOUNDARY}})
        assert not allows(mine, action, {made: {}})
        assert not allows(mine, action, {made: {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess"}})
        assert not allows(mine, action, {DATABASES: {"iam:PermissionsBoundary": BOUNDARY}})
        assert not allows(policies["fleet_recover"], action, {made: {"iam:PermissionsBoundary": BOUNDARY}}), "no boundary was named"
    assert not allows(mine, "iam:DeleteRolePermissionsBoundary", {made: {}})


@pytest.mark.parametrize("sid, key, role, has_tags, new", [
    ("ProveOwnSnapshots", "aws:RequestTag/Backstop-State", "function", PROVEN, {"Backstop-State": "unproven"}),
    ("MarkCompletion", "aws:ResourceTag/Backstop-State", "completion", FOREIGN, {"Backstop-Completion": "completed"}),
    ("DescribeVolumesOfOwnSnapshots", "aws:ResourceTag/Backstop-State", "function", PROVEN, {"Backstop-Volume": "gp3"}),
])
def test_a_condition_that_is_missing_is_found(policies, sid, key, role, has_tags, new):
    """The negative control of the tests above: each condition decides."""
    loose = json.loads(json.dumps(policies[role]))
    (statement,) = [one for one in loose if one["Sid"] == sid]
    del statement["Condition"]["StringEquals"][key]
    assert not tagged(policies[role], has_tags, new) and tagged(loose, has_tags, new)
