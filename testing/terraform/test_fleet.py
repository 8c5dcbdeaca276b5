"""A fleet's resources grow linearly, and 2,000 shards stay below AWS's quotas (quotas.toml)."""

import fnmatch
import itertools
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import states

QUOTAS = tomllib.loads(Path(__file__).with_name("quotas.toml").read_text())
DATE = QUOTAS.pop("date")
SHARDS = 2_000
# Snapshots that are kept of a shard with one volume: a month of daily ones.
KEPT = 31
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/{}-AbCdEf"
TIMES = ["cron(55 23 * * ? *)", "cron(0 3 * * ? *)", "rate(6 hours)"]

# The way of a module for each shard, beside the same shared modules.
EACH = """
terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

module "shard" {
  for_each = toset([for number in range(NUMBER) : format("shard-%04d", number)])
  source   = "../../modules/shard-backup"

  shard                = each.value
  secret_arn           = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/${each.value}-AbCdEf"
  schedule             = "cron(55 23 * * ? *)"
  package              = { s3_bucket = "acme-artifacts", s3_key = "backstop-lambda.zip" }
  vpc_id               = "vpc-0123456789abcdef0"
  subnet_ids           = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  database_cidr_blocks = ["10.1.0.0/16"]
  bucket               = { name = "acme-backstop", prefix = each.value }
}
"""


def names(number):
    return [f"shard-{one:04}" for one in range(number)]


@pytest.fixture(scope="module")
def fleets(shared_bench):
    """The resources of fleets of 10 and of 100 shards, by number."""
    return {number: states.applied(shared_bench, "examples/fleet", fleet(number))[0] for number in (10, 100)}


def fleet(number):
    shards = {name: {"secret_arn": SECRET.format(name), "schedule": TIMES[index % len(TIMES)]} for index, name in enumerate(names(number))}
    return {"shards": shards}


def usage(resources, number):
    """Returns what the resources take of each quota."""
    of = lambda kind: [one["values"] for one in resources if one["type"] == kind]
    most = lambda counts: max(counts.values(), default=0)
    functions = of("aws_lambda_function")
    networks = [one["vpc_config"][0] for one in functions if one["vpc_config"]]
    pairs = {(subnet, tuple(sorted(one["security_group_ids"]))) for one in networks for subnet in one["subnet_ids"]}
    policies = Counter()
    for one in of("aws_iam_role_policy"):
        policies[one["role"]] += len(re.sub(r"\s", "", one["policy"]))
    with_dimensions = [one for one in of("aws_cloudwatch_log_metric_filter") if one["metric_transformation"][0]["dimensions"]]
    patterns = [re.search(r'\$\.shard = "(.*?)"', one["pattern"])[1] for one in with_dimensions]
    return {
        "rules_per_security_group": most(Counter((one["security_group_id"], one["type"]) for one in of("aws_security_group_rule"))),
        "security_groups_per_network_interface": max(len(one["security_group_ids"]) for one in networks),
        "security_groups": len(of("aws_security_group")),
        "lambda_network_interfaces": len(pairs),
        "lambda_concurrent_executions": sum(max(one["reserved_concurrent_executions"] or 0, 0) for one in functions),
        "roles": len(of("aws_iam_role")),
        "role_inline_policy_characters": most(policies),
        "schedules": len(of("aws_scheduler_schedule")),
        "schedule_groups": len(of("aws_scheduler_schedule_group")),
        "event_rules": len(of("aws_cloudwatch_event_rule")),
        "alarms": len(of("aws_cloudwatch_metric_alarm")),
        "metric_filters_per_log_group": most(Counter(one["log_group_name"] for one in of("aws_cloudwatch_log_metric_filter"))),
        "dimensions_per_metric_filter": max((len(fnmatch.filter(names(number), one)) for one in patterns), default=0),
        "log_groups": len(of("aws_cloudwatch_log_group")),
        "snapshots": number * KEPT,
    }


def extrapolated(few, many):
    """Returns the usage of SHARDS shards by a straight line through two numbers of shards."""
    (first, low), (second, high) = few, many
    return {name: low[name] + (high[name] - low[name]) / (second - first) * (SHARDS - first) for name in low}


def passed(usages):
    return {name for name, used in usages.items() if used > QUOTAS[name]["value"]}


def test_the_quotas_are_dated_and_have_pages():
    assert DATE.year >= 2026
    for name, one in QUOTAS.items():
        assert set(one) == {"value", "adjustable", "per", "page"}, name
        assert one["page"].startswith("docs.aws.amazon.com/"), name


def test_resources_grow_by_the_same_number_for_each_shard(fleets):
    counts = {number: Counter(one["type"] for one in resources) for number, resources in fleets.items()}
    grown = {kind: (counts[100][kind] - counts[10][kind]) / 90 for kind in counts[100] if counts[100][kind] != counts[10][kind]}
    assert grown == {"aws_scheduler_schedule": 1, "aws_cloudwatch_metric_alarm": 1}


def test_two_thousand_shards_stay_below_the_quotas(fleets):
    at = extrapolated(*((number, usage(resources, number)) for number, resources in sorted(fleets.items())))
    assert set(at) == set(QUOTAS)
    assert at["schedules"] == SHARDS + 1 and at["role_inline_policy_characters"] > 1_000
    over = passed(at)
    assert over == set(), {name: (at[name], QUOTAS[name]) for name in over}


def test_a_module_for_each_shard_passes_quotas_and_this_is_found(shared_bench):
    """The negative control of the test above, and the reason for the fleet."""
    used = []
    for number in (2, 4):
        folder = shared_bench.folder / "examples" / f"each-{number}"
        folder.mkdir()
        (folder / "main.tf").write_text(EACH.replace("NUMBER", str(number)))
        used.append((number, usage(states.applied(shared_bench, f"examples/each-{number}", {})[0], number)))
    assert passed(extrapolated(*used)) == {"roles", "lambda_network_interfaces", "alarms"}


def test_one_filter_for_all_shards_is_found(fleets):
    """CloudWatch Logs may disable a filter at 1,000 dimensions."""
    whole = [json.loads(json.dumps(one).replace("*7", "*")) for one in fleets[10]]
    used = {number: usage(whole, number) for number in (10, 100)}
    assert "dimensions_per_metric_filter" in passed(extrapolated(*used.items()))


def test_secrets_that_are_enumerated_are_found(fleets):
    """Enumerated ARNs exceed the policies of a role."""
    used = []
    for number, resources in sorted(fleets.items()):
        changed = json.loads(json.dumps(resources).replace("secret:prod/*", "secret:prod/*" + ",".join(SECRET.format(name) for name in names(number))))
        used.append((number, usage(changed, number)))
    assert "role_inline_policy_characters" in passed(extrapolated(*used))


def test_schedules_are_checked_once_for_each_text(fleets):
    texts = {one["values"]["schedule_expression"] for one in fleets[100] if one["type"] == "aws_scheduler_schedule"}
    assert set(TIMES) <= texts
    inputs = [json.loads(one["values"]["target"][0]["input"]) for one in fleets[100] if one["type"] == "aws_scheduler_schedule"]
    assert sorted(one["secret_id"] for one in inputs if "secret_id" in one) == [SECRET.format(name) for name in names(100)]
    assert not list(itertools.filterfalse(lambda one: one.get("sweep") or one["scheduled_time"] == "<aws.scheduler.scheduled-time>", inputs))
