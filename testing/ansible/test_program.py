"""The instance installs only the program whose checksum is configured. A stand-in plays the AWS CLI, which serves what it is given."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROLE = Path(__file__).resolve().parents[2] / "deploy/ansible"
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_tasks: {tasks}
"""


def installs(folder, served, **package):
    """Runs the tasks of `program.yml`; returns the result, and the calls of the AWS CLI."""
    tools, calls = folder / "tools", folder / "calls"
    tools.mkdir(exist_ok=True)
    calls.write_text("")
    (folder / "served").write_bytes(served)
    # `aws s3 cp … s3://BUCKET/KEY FILE`
    (tools / "aws").write_text(f'#!/bin/sh\necho "$@" >>{calls}\nfor last; do :; done\nexec cp {folder}/served "$last"\n')
    (tools / "aws").chmod(0o755)
    (folder / "play.yml").write_text(PLAY.format(tasks=ROLE / "roles/mysql/tasks/program.yml"))
    variables = {
        "ansible_python_interpreter": sys.executable, "backstop_program": str(folder / "backstop"), "backstop_package": package,
    }
    ran = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", "-e", json.dumps(variables), folder / "play.yml"],
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, timeout=120,
    )
    return ran, calls.read_text().splitlines()


@pytest.mark.parametrize("before", [None, b"an older program"])
def test_program_is_installed_once(tmp_path, before):
    if before:
        (tmp_path / "backstop").write_bytes(before)
    package = {"s3_bucket": "programs", "s3_key": "backstop-1", "sha256": hashlib.sha256(b"backstop").hexdigest(), "region": "eu-west-1"}
    ran, calls = installs(tmp_path, b"backstop", **package)
    assert ran.returncode == 0, ran.stdout
    assert calls == [f"s3 cp --quiet --region eu-west-1 s3://programs/backstop-1 {tmp_path}/backstop.new"]
    assert (tmp_path / "backstop").read_bytes() == b"backstop" and os.access(tmp_path / "backstop", os.X_OK)
    ran, calls = installs(tmp_path, b"another", **package)
    assert (ran.returncode, calls) == (0, []), "it is there already"


def test_another_program_is_refused(tmp_path):
    package = {"s3_bucket": "programs", "s3_key": "backstop-1", "sha256": hashlib.sha256(b"backstop").hexdigest(), "region": "eu-west-1"}
    ran, _ = installs(tmp_path, b"tampered with", **package)
    assert ran.returncode != 0 and "is not the one of backstop_package.sha256" in ran.stdout, ran.stdout
    assert not (tmp_path / "backstop").exists()
