"""Tests of the remote state of recoveries: separate for each, and locked during a run."""

import json

import pytest

from moto_server import LOGIN, REGION
from workbench import MODULES, Bench

# Stands for the example: the same backend with the same settings, and something to remember.
ROOT = """
terraform {
  backend "s3" {}
}

variable "recovery_id" {
  type = string
}

resource "terraform_data" "recovery" {
  input = var.recovery_id
}

output "recovery" {
  value = terraform_data.recovery.output
}
"""


@pytest.fixture
def recoveries(moto, tmp_path):
    """Creates a working folder for a recovery, as of another user each time."""
    settings = MODULES / "examples" / "recovery" / "backend.hcl"
    bucket = next(line.split('"')[1] for line in settings.read_text().splitlines() if line.startswith("bucket"))
    place = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    s3 = moto.client("s3")
    if bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=bucket, **place)

    def begin(name, by):
        bench = Bench(tmp_path / by, LOGIN)
        folder = bench.folder / "root"
        folder.mkdir()
        (folder / "main.tf").write_text(ROOT)
        local = [f"endpoints={{s3=\"{moto.url}\",sts=\"{moto.url}\"}}", "use_path_style=true", "skip_credentials_validation=true",
                 "skip_requesting_account_id=true", "skip_metadata_api_check=true"]
        bench.terraform("root", "init", "-no-color", f"-backend-config={settings}",
                        f"-backend-config=key=backstop/recoveries/{name}.tfstate", *(f"-backend-config={one}" for one in local))
        return bench

    return bucket, begin


def apply(bench, name, check=True):
    return bench.terraform("root", "apply", "-no-color", "-auto-approve", f"-var=recovery_id={name}", "-lock-timeout=0s", check=check)


def test_each_recovery_has_a_state_of_its_own_and_others_find_it(moto, recoveries):
    _, begin = recoveries
    apply(begin("r1", by="one"), "r1")
    again = begin("r1", by="another")
    assert "No changes" in apply(again, "r1").stdout, "who continues a recovery finds what was made"
    other = begin("r2", by="third")
    assert "1 added" in apply(other, "r2").stdout, "another recovery knows nothing of it"


def test_two_cannot_work_on_one_recovery(moto, recoveries):
    bucket, begin = recoveries
    one = begin("r3", by="one")
    lock = "backstop/recoveries/r3.tfstate.tflock"
    held = {"ID": "3f1c", "Operation": "OperationTypeApply", "Who": "operator@elsewhere", "Created": "2026-11-23T06:00:00Z"}
    moto.client("s3").put_object(Bucket=bucket, Key=lock, Body=json.dumps(held))
    refused = apply(one, "r3", check=False)
    assert refused.returncode != 0 and "operator@elsewhere" in refused.stdout, refused.stdout
    moto.client("s3").delete_object(Bucket=bucket, Key=lock)
    apply(one, "r3")
    left = moto.client("s3").list_objects_v2(Bucket=bucket, Prefix="backstop/recoveries/r3")
    assert [one["Key"] for one in left["Contents"]] == ["backstop/recoveries/r3.tfstate"], "the lock is given back"
