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
    assert len(re.findall(r"^\| `\w+` \|", said, re.M)) >= 7


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


@pytest.mark.parametrize("example", ["shard", "fleet", "recovery"])
def test_state_is_remote_locked_and_encrypted(example):
    backend = (MODULES / "examples" / example / "backend.hcl").read_text()
    settings = dict(re.findall(r"^(\w+) += (.*)$", backend, re.M))
    assert settings["use_lockfile"] == settings["encrypt"] == "true"
    # A recovery's key is given when it begins, so that no two can share one.
    assert ("key" in settings) == (example != "recovery")
    assert 'backend "s3" {}' in (MODULES / "examples" / example / "main.tf").read_text()


# Events that the metric filters count, and the folder of the function that logs them.
@pytest.mark.parametrize("module", ["completion", "shard-backup", "fleet-backup"])
def test_the_alarms_listen_for_what_the_functions_log(module):
    events = set(re.findall(r"\b(backup_\w+|candidate_expired)\b(?=[\\ \"]| +=)", (MODULES / "modules" / module / "alarms.tf").read_text()))
    assert events
    source = "\n".join(file.read_text() for file in (ROOT / "crates/lambda/src").rglob("*.rs"))
    missing = sorted(event for event in events if f'"{event}"' not in source)
    assert missing == [], "no such event would ever be counted"
