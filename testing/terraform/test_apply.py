"""A real provider applies the modules at moto: created as asked, a second plan empty, nothing left when destroyed."""

import zipfile

import pytest
import yaml

import old_provider
from applied import Applied
from moto_server import REGION
from workbench import MODULES, ROOT


def snapshot(moto, size=7, **tags):
    """A snapshot as Backstop tags it."""
    ec2 = moto.client("ec2")
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=size)["VolumeId"]
    own = {"Cluster-name": "orders", "Backstop-State": "proven", "Backstop-Run": "20261123T235500Z-9f3a04c1", "Backstop-Set": "1"}
    tagged = [{"Key": key.replace("_", "-"), "Value": value} for key, value in (own | tags).items()]
    made = ec2.create_snapshot(VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": tagged}])
    ec2.delete_volume(VolumeId=volume)
    return made["SnapshotId"]


def recovery(site, snapshots, **changes):
    return {
        "shard": "orders",
        "recovery_id": "r1",
        "primary_availability_zone": f"{REGION}a",
        "availability_zone": f"{REGION}b",
        "subnet_id": site["subnets"]["b"],
        "security_group_ids": [site["group"]],
        "ami_id": site["image"],
        "instance_type": "m5.large",
        "protected": False,
        "volumes": [{"device_name": device, "snapshot_id": name} for device, name in snapshots.items()],
    } | changes


def left_of(moto, recovery_id):
    """Returns the existing resources of a recovery."""
    ec2 = moto.client("ec2")
    mine = [{"Name": "tag:Backstop-Recovery", "Values": [recovery_id]}]
    running = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    instances = [one for group in ec2.describe_instances(Filters=mine + running)["Reservations"] for one in group["Instances"]]
    return {
        "instances": instances,
        "volumes": ec2.describe_volumes(Filters=mine)["Volumes"],
        "interfaces": ec2.describe_network_interfaces(Filters=mine)["NetworkInterfaces"],
    }


def test_an_instance_is_recovered_and_leaves_nothing(old_bench, moto, site):
    old_provider.fit_recovered_instance(old_bench)
    snapshots = {"/dev/sdf": snapshot(moto, Backstop_Set="2"), "/dev/sdg": snapshot(moto, size=3, Backstop_Set="2")}
    it = Applied(old_bench, moto, "recovered-instance", recovery(site, snapshots))
    # An apply that broke off early is continued: the volumes that were there are the ones that are used.
    it.run("apply", "-auto-approve", "-target=module.it.aws_ebs_volume.mysql")
    begun = left_of(moto, "r1")
    assert len(begun["volumes"]) == 2 and not begun["instances"]
    it.run("apply", "-auto-approve")
    it.run("plan", "-detailed-exitcode")

    said, made = it.outputs(), left_of(moto, "r1")
    (instance,) = made["instances"]
    assert instance["InstanceId"] == said["instance_id"] and instance["Placement"]["AvailabilityZone"] == f"{REGION}b"
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["MySQL-Host"] == said["mysql_host"] == f"{instance['PrivateIpAddress']}:3306"
    assert tags["Cluster-name"] == "orders" and tags["Backstop-Recovery"] == "r1"
    data = {volume["VolumeId"]: volume for volume in made["volumes"] if volume["VolumeId"] in said["volume_ids"]}
    assert set(data) == {volume["VolumeId"] for volume in begun["volumes"]}
    for device, one in said["volumes"].items():
        volume = data[one["volume_id"]]
        assert volume["SnapshotId"] == snapshots[device] == one["snapshot_id"] and volume["Encrypted"]
        assert volume["AvailabilityZone"] == f"{REGION}b" and volume["Size"] == {"/dev/sdf": 7, "/dev/sdg": 3}[device]
        assert [(a["InstanceId"], a["Device"]) for a in volume["Attachments"]] == [(said["instance_id"], device)]
    host = yaml.safe_load(said["ansible_inventory"])["mysql"]["hosts"]["orders-r1"]
    assert host["ansible_host"] == said["host"] and [one["volume_id"] for one in host["backstop_volumes"]] == said["volume_ids"]

    # A mistake in the inputs does not cost the data volume, and the same inputs still fit afterwards.
    other = dict.fromkeys(snapshots, snapshot(moto, Backstop_Set="2"))
    it.write(recovery(site, {"/dev/sdf": other["/dev/sdf"], "/dev/sdg": snapshots["/dev/sdg"]}))
    refused = it.run("apply", "-auto-approve", check=False)
    assert refused.returncode != 0 and "Give each recovery a separate state" in " ".join(refused.stdout.split())
    assert {volume["VolumeId"] for volume in left_of(moto, "r1")["volumes"]} == {volume["VolumeId"] for volume in made["volumes"]}

    # The snapshots may be gone by the time that the instance is no longer wanted.
    for name in snapshots.values():
        moto.client("ec2").delete_snapshot(SnapshotId=name)
    it.write(recovery(site, snapshots, check_snapshots=False))
    it.run("plan", "-detailed-exitcode")
    it.run("destroy", "-auto-approve")
    assert {kind: len(found) for kind, found in left_of(moto, "r1").items()} == {"instances": 0, "volumes": 0, "interfaces": 0}
    assert "aws_" not in it.run("state", "list").stdout


@pytest.mark.parametrize(
    "tags, changes, words",
    [
        ({"Backstop_State": "unproven"}, {}, "is not proven"),
        ({"Cluster_name": "customers"}, {}, "is of cluster `customers`, not of `orders`"),
        ({"Backstop_Set": "2"}, {}, "is one of a set of 2, and 1 are given"),
        ({}, {"availability_zone": f"{REGION}a"}, "is the primary's own"),
        ({}, {"availability_zone": f"{REGION}c"}, "not in eu-central-1c"),
    ],
)
def test_a_refused_recovery_creates_nothing(old_bench, moto, site, tags, changes, words):
    old_provider.fit_recovered_instance(old_bench)
    it = Applied(old_bench, moto, "recovered-instance", recovery(site, {"/dev/sdf": snapshot(moto, **tags)}, recovery_id="r2", **changes))
    refused = it.run("apply", "-auto-approve", check=False)
    assert refused.returncode != 0 and words in " ".join(refused.stdout.replace("│", " ").split()), refused.stdout
    assert not any(left_of(moto, "r2").values())


def test_a_snapshot_that_is_not_there_is_named(old_bench, moto, site):
    old_provider.fit_recovered_instance(old_bench)
    it = Applied(old_bench, moto, "recovered-instance", recovery(site, {"/dev/sdf": "snap-0123456789abcdef0"}, recovery_id="r3"))
    refused = it.run("apply", "-auto-approve", check=False)
    assert refused.returncode != 0 and "snap-0123456789abcdef0" in refused.stdout
    assert not any(left_of(moto, "r3").values())


def package(folder):
    archive = folder / "bootstrap.zip"
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("bootstrap", "#!/bin/sh\n")
    return {"path": str(archive)}


def shard(site, folder, **changes):
    return {
        "shard": "orders",
        "secret_arn": f"arn:aws:secretsmanager:{REGION}:123456789012:secret:prod/orders-AbCdEf",
        "schedule": "cron(55 23 * * ? *)",
        "package": package(folder),
        "vpc_id": site["vpc"],
        "subnet_ids": list(site["subnets"].values()),
        "database_cidr_blocks": ["10.1.0.0/16"],
        "endpoints": {"mode": "use", "client_security_group_id": "${module.endpoints.client_security_group_id}"},
        "bucket": {"name": "${module.store.bucket}", "prefix": "orders"},
        "prune_principals": ["arn:aws:iam::123456789012:root"],
        "volume_tag": {"key": "Role", "value": "mysql"},
    } | changes


def fleet(site, folder, names):
    alone = shard(site, folder)
    taken = ("package", "vpc_id", "subnet_ids", "database_cidr_blocks", "endpoints")
    secret = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:prod/"
    return {name: alone[name] for name in taken} | {
        "shards": {name: {"secret_arn": f"{secret}{name}-AbCdEf", "schedule": "cron(55 23 * * ? *)"} for name in names},
        "secret_arns": [f"{secret}*"],
        "repositories": [{"name": "${module.store.bucket}"}, {"name": "${module.store.bucket}", "prefix": "orders"}],
    }


def shared(site, folder, bucket):
    """Modules that all shards share."""
    return {
        "store": ("store", {"name": bucket}),
        "endpoints": ("endpoints", {"name": "backstop", "vpc_id": site["vpc"], "subnet_ids": list(site["subnets"].values()),
                                    "route_table_ids": [site["routes"]]}),
        "completion": ("completion", {"secret_arns": [f"arn:aws:secretsmanager:{REGION}:123456789012:secret:prod/*"],
                                      "repositories": [{"name": "${module.store.bucket}"}], "package": package(folder)}),
    }


def left_of_shard(moto, site, bucket):
    """Returns the existing resources of a shard's backup, by kind."""
    ec2, iam = moto.client("ec2"), moto.client("iam")
    in_vpc = [{"Name": "vpc-id", "Values": [site["vpc"]]}]
    named = lambda names: [name for name in names if "backstop" in name]
    alarms = moto.client("cloudwatch").describe_alarms()["MetricAlarms"]
    groups = moto.client("logs").describe_log_groups()["logGroups"]
    endpoints = ec2.describe_vpc_endpoints(Filters=in_vpc)["VpcEndpoints"]
    return {
        "functions": named(one["FunctionName"] for one in moto.client("lambda").list_functions()["Functions"]),
        "roles": named(one["RoleName"] for one in iam.list_roles()["Roles"]),
        "queues": named(moto.client("sqs").list_queues().get("QueueUrls", [])),
        "alarms": named(one["AlarmName"] for one in alarms),
        "logs": named(one["logGroupName"] for one in groups),
        "endpoints": [one["ServiceName"] for one in endpoints if one["State"] not in ("deleted", "deleting")],
        "groups": named(one["GroupName"] for one in ec2.describe_security_groups(Filters=in_vpc)["SecurityGroups"]),
        "buckets": [one["Name"] for one in moto.client("s3").list_buckets()["Buckets"] if one["Name"] == bucket],
    }


def fit_for_shards(bench):
    for fit in (old_provider.fit_shard_backup, old_provider.fit_fleet_backup, old_provider.fit_store, old_provider.fit_endpoints, old_provider.fit_completion):
        fit(bench)


TO_FLEET = """
moved {
  from = module.orders.aws_cloudwatch_metric_alarm.missing_success
  to   = module.fleet.aws_cloudwatch_metric_alarm.missing["orders"]
}
"""


def test_a_shards_backup_is_set_up_moves_to_a_fleet_and_leaves_nothing(old_bench, moto, site, tmp_path):
    fit_for_shards(old_bench)
    bucket = f"acme-{site['vpc'][4:]}"
    common = shared(site, tmp_path, bucket)
    it = Applied(old_bench, moto, "fleet-backup", fleet(site, tmp_path, ["customers"]), common | {"orders": ("shard-backup", shard(site, tmp_path))})
    it.run("apply", "-auto-approve")
    it.run("plan", "-detailed-exitcode")

    made = left_of_shard(moto, site, bucket)
    assert sorted(made["functions"]) == ["backstop-completion", "backstop-fleet", "backstop-orders"] and made["buckets"] == [bucket]
    assert sorted(made["roles"]) == ["backstop-completion-function", "backstop-completion-scheduler",
                                     "backstop-fleet-function", "backstop-fleet-scheduler", "backstop-orders-function", "backstop-orders-prune", "backstop-orders-scheduler"]
    assert sorted(made["endpoints"]) == [f"com.amazonaws.{REGION}.{one}" for one in ("ec2", "s3", "secretsmanager")]
    function = moto.client("lambda").get_function_configuration(FunctionName="backstop-orders")
    assert function["Environment"]["Variables"] == {
        "BACKSTOP_REPOSITORY": f"s3://{bucket}/orders", "BACKSTOP_REPOSITORY_CREATE": "if-empty"}
    assert set(function["VpcConfig"]["SubnetIds"]) == set(site["subnets"].values())
    policy = moto.client("iam").get_role_policy(RoleName="backstop-orders-function", PolicyName="backup")["PolicyDocument"]
    sids = [one["Sid"] for one in policy["Statement"]]
    assert len(set(sids)) == len(sids) and {"ReadSecrets", "TagAtCreation", "ProveOwnSnapshots"} <= set(sids)
    blocked = moto.client("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())
    (silent,) = [one for one in moto.client("cloudwatch").describe_alarms()["MetricAlarms"] if one["AlarmName"] == "backstop-orders-no-backup"]
    assert silent["TreatMissingData"] == "breaching"
    (events,) = [one for one in moto.client("lambda").list_event_source_mappings()["EventSourceMappings"] if ":backstop-completion" in one["FunctionArn"]]
    assert events["EventSourceArn"].endswith(":backstop-completion")
    (target,) = moto.client("events").list_targets_by_rule(Rule="backstop-completion")["Targets"]
    assert target["Arn"] == events["EventSourceArn"] and target["DeadLetterConfig"]["Arn"].endswith(":backstop-completion-dead")

    live = moto.client("lambda").get_alias(FunctionName="backstop-fleet", Name="live")
    assert live["FunctionVersion"] == it.outputs()["function_version"]

    # The moved block of the fleet's README: the alarm stays, the rest of the shard's module goes.
    assert TO_FLEET.strip() in (MODULES / "modules/fleet-backup/README.md").read_text().replace("\n   ", "\n")
    it.write(fleet(site, tmp_path, ["customers", "orders"]), common, TO_FLEET.replace("module.fleet", "module.it"))
    said = it.run("apply", "-auto-approve").stdout
    assert 'module.orders.aws_cloudwatch_metric_alarm.missing_success has moved to module.it.aws_cloudwatch_metric_alarm.missing["orders"]' in said
    assert "module.orders.aws_lambda_function.backup: Destruction complete" in said
    assert not [line for line in said.splitlines() if "missing" in line and ("Creation" in line or "Destruction" in line)], said
    it.run("plan", "-detailed-exitcode")

    it.run("destroy", "-auto-approve")
    assert not any(left_of_shard(moto, site, bucket).values()), left_of_shard(moto, site, bucket)
    assert "aws_" not in it.run("state", "list").stdout


# As when a shard made bucket and endpoints for all others.
BEFORE = """
module "store" {
  source = "../store"
  count  = 1
  name   = var.bucket
}

module "endpoints" {
  source          = "../endpoints"
  count           = 1
  name            = "backstop"
  vpc_id          = var.vpc_id
  services        = []
  subnet_ids      = []
  route_table_ids = var.routes
}

variable "bucket" { type = string }
variable "vpc_id" { type = string }
variable "routes" { type = list(string) }
"""
MOVED = """
moved {
  from = module.it.module.store[0]
  to   = module.store
}

moved {
  from = module.it.module.endpoints[0]
  to   = module.endpoints
}
"""


def test_shared_things_leave_the_shard_that_made_them(old_bench, moto, site, tmp_path):
    """The moved blocks of docs/deploy-aws.md: nothing is destroyed or created."""
    for fit in (old_provider.fit_store, old_provider.fit_endpoints):
        fit(old_bench)
    assert all(line.strip() in (ROOT / "docs" / "deploy-aws.md").read_text().replace("module.orders", "module.it") for line in MOVED.splitlines())
    before = old_bench.folder / "modules" / "before"
    before.mkdir()
    (before / "main.tf").write_text(BEFORE)
    bucket = f"acme-moved-{site['vpc'][4:]}"
    it = Applied(old_bench, moto, "before", {"bucket": bucket, "vpc_id": site["vpc"], "routes": [site["routes"]]})
    it.run("apply", "-auto-approve")
    (before / "main.tf").write_text('output "gone" {\n  value = true\n}\n')
    endpoints = {"name": "backstop", "vpc_id": site["vpc"], "services": [], "route_table_ids": [site["routes"]]}
    it.write({}, {"store": ("store", {"name": bucket}), "endpoints": ("endpoints", endpoints)}, MOVED)
    old_bench.terraform("root", "get")
    said = it.run("apply", "-auto-approve").stdout
    assert "has moved to module.store.aws_s3_bucket.repository" in said and "has moved to module.endpoints.aws_vpc_endpoint.s3[0]" in said
    assert "0 added, 0 changed, 0 destroyed" in said, said
    it.run("destroy", "-auto-approve")
