"""Tests of the modules' README files against the modules."""

import re

import pytest

import tables
from workbench import MODULES, ROOT


def test_every_module_has_a_readme():
    roots = {file.parent for file in (MODULES / "modules").glob("*/main.tf")} | {file.parent for file in (MODULES / "modules").glob("*/variables.tf")}
    assert roots <= set(tables.documented())


@pytest.mark.parametrize("folder", tables.documented(), ids=lambda folder: folder.name)
def test_tables_are_those_of_the_module(folder):
    said = (folder / "README.md").read_text()
    assert said == tables.renewed(folder), "run: .cache/venv/bin/python testing/terraform/tables.py"
    assert len(re.findall(r"^\| `\w+` \|", said, re.M)) >= 15


def test_a_changed_variable_is_noticed(tmp_path):
    """The negative control of the test above."""
    folder = tables.documented()[0]
    for name in ("variables.tf", "outputs.tf", "README.md"):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "variables.tf").open("a").write('\nvariable "new" {\n  description = "New."\n  type        = string\n}\n')
    assert (tmp_path / "README.md").read_text() != tables.renewed(tmp_path)


def test_no_file_names_a_registry_or_is_locked_to_one():
    for file in MODULES.rglob("*"):
        assert file.name != ".terraform.lock.hcl"
        if file.is_file():
            assert "registry." not in file.read_text(), file


@pytest.mark.parametrize("example", ["shard", "recovery"])
def test_state_is_remote_locked_and_encrypted(example):
    backend = (MODULES / "examples" / example / "backend.hcl").read_text()
    settings = dict(re.findall(r"^(\w+) += (.*)$", backend, re.M))
    assert settings["use_lockfile"] == settings["encrypt"] == "true"
    # A recovery's key is given when it begins, so that no two can share one.
    assert ("key" in settings) == (example == "shard")
    assert 'backend "s3" {}' in (MODULES / "examples" / example / "main.tf").read_text()


def test_the_alarm_listens_for_what_the_function_logs():
    folder = ROOT / "crates" / "lambda" / "src"
    if not (folder / "function.rs").exists():
        pytest.skip("the function is not there")
    alarms = (MODULES / "modules" / "shard-backup" / "alarms.tf").read_text()
    key, value = re.search(r'success_pattern = "\{ \$\.(\w+) = \\"(\w+)\\" \}"', alarms).groups()
    source = "\n".join(file.read_text() for file in folder.rglob("*.rs"))
    assert f'{key} = "{value}"' in source, "no success would ever be counted"
