"""The modules against the schema of the current AWS provider: validation, and plans with mocks."""

import re

import pytest

import schema
from states import MOCKS
from workbench import CACHE, MODULES as TERRAFORM, package

MODULES = ("modules/shard-backup", "modules/recovered-instance", "modules/shard-archiver", "modules/shared/client-network", "modules/store", "modules/endpoints", "modules/completion", "modules/fleet-backup")
MODULES_FOLDER = TERRAFORM / "modules"
EXAMPLES = ("examples/shard", "examples/fleet", "examples/recovery")


def init(bench, folder):
    bench.terraform(folder, "init", "-no-color", "-backend=false")


@pytest.mark.parametrize("folder", MODULES + EXAMPLES)
def test_what_is_delivered_is_valid(bench, folder):
    init(bench, folder)
    said = bench.terraform(folder, "validate", "-no-color").stdout
    assert "Success!" in said and "Warning" not in said, said


@pytest.mark.parametrize("folder", MODULES)
def test_plans(bench, folder):
    init(bench, folder)
    said = bench.terraform(folder, "test", "-no-color").stdout
    assert "Success!" in said and " 0 failed" in said, said


EXAMPLE = """
variables {
  recovery_id               = "r1"
  primary_availability_zone = "eu-central-1a"
  availability_zone         = "eu-central-1b"
  subnet_id                 = "subnet-0123456789abcdef1"
  volumes                   = { "/dev/sdf" = { snapshot_id = "snap-0123456789abcdef0", mount_points = ["/var/lib/mysql"] } }
}

run "plan" {
  command = plan
}
"""


@pytest.mark.parametrize("folder", EXAMPLES)
def test_examples_can_be_planned_before_anything_exists(bench, folder):
    variables = EXAMPLE if folder == "examples/recovery" else EXAMPLE[EXAMPLE.index("run "):]
    (bench.folder / folder / "example.tftest.hcl").write_text(MOCKS + variables)
    init(bench, folder)
    said = bench.terraform(folder, "test", "-no-color").stdout
    assert "1 passed, 0 failed" in said, said


@pytest.mark.parametrize(
    "folder, file, old, new, words",
    [
        ("modules/shard-backup", "function.tf", "memory_size ", "memory_sise ", 'named "memory_sise" is not expected'),
        ("modules/shard-backup", "schedule.tf", '    mode                      =', "#", 'The argument "mode" is required'),
        ("modules/shard-backup", "schedule.tf", "    maximum_retry_attempts ", "    maximum_retries ", '"maximum_retries" is not expected'),
        ("modules/shard-backup", "schedule.tf", "  flexible_time_window {", "  window {", 'Blocks of type "window" are not expected'),
        ("modules/shard-backup", "iam.tf", "aws_iam_role_policy", "aws_iam_role_polity", "does not support resource type"),
        ("modules/shard-backup", "outputs.tf", "aws_lambda_function.backup.arn", "aws_lambda_function.backup.arm", "no argument, nested block, or exported attribute"),
        ("modules/store", "main.tf", "block_public_acls ", "block_public_acl ", "is not expected"),
        ("modules/recovered-instance", "main.tf", "  volume_id   =", "  volume =", 'The argument "volume_id" is required'),
        ("modules/recovered-instance", "main.tf", "encrypted                  = true", "encrypted = [true]", "Incorrect attribute value type"),
    ],
)
def test_a_mistake_in_a_resource_is_found(bench, folder, file, old, new, words):
    bench.change(f"{folder}/{file}", old, new)
    init(bench, folder)
    done = bench.terraform(folder, "validate", "-no-color", check=False)
    assert done.returncode != 0 and words in " ".join(done.stdout.split()), done.stdout


@pytest.mark.parametrize(
    "folder, file, old, new",
    [
        ("modules/shard-backup", "alarms.tf", 'treat_missing_data  = "breaching"', 'treat_missing_data  = "missing"'),
        ("modules/recovered-instance", "main.tf", '= "required"', '= "optional"'),
        ("modules/shard-archiver", "iam.tf", "shards/*/archive/*", "*"),
    ],
)
def test_a_plan_that_says_something_else_fails_its_test(bench, folder, file, old, new):
    """The negative control of `test_plans`."""
    bench.change(f"{folder}/{file}", old, new)
    init(bench, folder)
    said = bench.terraform(folder, "test", "-no-color", check=False)
    assert said.returncode != 0 and "Test assertion failed" in said.stdout, said.stdout


def resources_without_tags(folder):
    """Returns the resources below a folder that AWS could tag and that the modules do not."""
    found = []
    for file in sorted(folder.rglob("*.tf")):
        for kind, name, body in re.findall(r'^resource "(aws_\w+)" "(\w+)" \{\n(.*?)^\}', file.read_text(), re.M | re.S):
            known = schema.load(package(schema.PACKAGE), [("resource", kind)], CACHE / f"schemas-{schema.PROVIDER_VERSION}.json")
            if "tags" in known[f"resource {kind}"]["attributes"] and not re.search(r"^  tags +=", body, re.M):
                found.append(f"{file.name}: {kind}.{name}")
    return found


def test_everything_that_can_be_tagged_is(tmp_path):
    """Organisations require tags on everything, such as that of a cost centre."""
    assert resources_without_tags(MODULES_FOLDER) == []
    text = (MODULES_FOLDER / "shard-backup/function.tf").read_text()
    (tmp_path / "function.tf").write_text(re.sub(r"^  tags += .*\n", "", text, flags=re.M))
    assert len(resources_without_tags(tmp_path)) == 3
