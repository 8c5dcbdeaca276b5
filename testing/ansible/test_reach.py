"""Tests of the connection to a new instance: a real sshd that opens late, shows another key, and closes in the middle."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

import ec2_host
import shard
from ec2_host import INSTANCE, PRINTED

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "deploy/ansible/playbooks"
BIN = pathlib.Path(sys.executable).parent
# Stands for the role: its first part, and a task that is long enough to be interrupted.
PLAYBOOK = """
- hosts: mysql
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: backstop.mysql.mysql
        tasks_from: reach.yml
    - name: Work on the instance
      ansible.builtin.shell: "sleep 3; echo done >> {marks}"
"""


@pytest.fixture
def host(tmp_path):
    if os.geteuid() != 0 or not shutil.which("sshd", path="/usr/sbin"):
        pytest.skip("left out: only root can run the sshd of the instance")
    one = ec2_host.Host(tmp_path / "instance")
    yield one
    one.stop()


@pytest.fixture
def ec2():
    one = ec2_host.Ec2()
    yield one
    one.end()


class Run:
    """A run of Ansible on the controller, whose folder is that of the inventory."""

    def __init__(self, folder, host, ec2, **changed):
        self.folder, self.marks = folder, folder / "marks"
        given = {"ansible_host": "127.0.0.1", "ansible_port": host.port, "ansible_user": "root", "ansible_ssh_private_key_file": str(host.folder / "client"),
                 "ansible_python_interpreter": sys.executable, "backstop_instance_id": INSTANCE, "backstop_region": "eu-central-1",
                 "backstop_connection": "ssh", "backstop_host_key_timeout": 60, "backstop_host_key_interval": 1, "backstop_connect_timeout": 60} | changed
        (folder / "inventory.yml").write_text(json.dumps({"mysql": {"hosts": {"db": given}}}))
        # The variables of the delivered playbooks come with them.
        shutil.copytree(PLAYBOOKS / "group_vars", folder / "group_vars", dirs_exist_ok=True)
        (folder / "play.yml").write_text(PLAYBOOK.format(marks=self.marks))
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1", "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"), "HOME": str(folder),
                       "PATH": f"{folder}/bin:{BIN}:{os.environ['PATH']}", "AWS_ENDPOINT_URL": ec2.url, "AWS_ACCESS_KEY_ID": "test",
                       "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true", "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
                       # A setting of the administrator that would accept any key.
                       "ANSIBLE_HOST_KEY_CHECKING": "false"}
        self.process = subprocess.Popen([str(BIN / "ansible-playbook"), "-vv", "-i", str(folder / "inventory.yml"), str(folder / "play.yml")],
                                        stdout=(folder / "said").open("w"), stderr=subprocess.STDOUT, env=environment, cwd=folder)

    def said(self):
        return (self.folder / "said").read_text()

    def until(self, so, what):
        shard.until(lambda: so() or self.process.poll() is not None, what)
        assert so(), self.said()

    def begins(self, task):
        self.until(lambda: task in self.said(), f"Ansible begins: {task}")

    def ends(self):
        return self.process.wait(timeout=280)

    def pinned(self):
        file = self.folder / "known_hosts"
        return file.read_text().splitlines() if file.exists() else []


def test_an_instance_that_starts_slowly(tmp_path, host, ec2):
    """The key is printed late, sshd opens late, and another host answers at the address first."""
    run = Run(tmp_path, host, ec2)
    run.begins("Pin the host key")
    run.until(lambda: len(ec2.asked) > 2, "the console output is read again")
    ec2.output = PRINTED.format(key=host.key)
    run.begins("Wait until the instance accepts connections")
    time.sleep(3)
    host.start("other")
    run.until(lambda: "Connection closed" in host.log("other") or "Connection reset" in host.log("other"), "Ansible met another key")
    assert "Accepted publickey" not in host.log("other")
    host.stop()
    host.start()
    run.begins("Work on the instance")
    run.until(lambda: host.log().count("Accepted publickey") > 0, "a connection")
    time.sleep(2)
    # A reboot in the middle: all connections are lost, and sshd opens again later.
    host.stop()
    time.sleep(2)
    host.start()
    assert run.ends() == 0, run.said()
    assert "ssh_retry" in run.said() and "done" in run.marks.read_text(), run.said()
    assert run.pinned() == [f"{INSTANCE} {host.key}"]
    assert all(asked.get("Latest") == "true" for asked in ec2.asked)


def test_another_key_is_never_accepted(tmp_path, host, ec2):
    ec2.output = PRINTED.format(key=host.key)
    host.start("other")
    run = Run(tmp_path, host, ec2, backstop_connect_timeout=6)
    assert run.ends() != 0 and "timed out waiting for" in run.said(), run.said()
    assert not run.marks.exists() and "Accepted publickey" not in host.log("other")


def test_a_connection_that_stays_lost_is_bounded(tmp_path, host, ec2):
    ec2.output = PRINTED.format(key=host.key)
    host.start()
    run = Run(tmp_path, host, ec2, ansible_ssh_retries=2)
    run.begins("Work on the instance")
    time.sleep(1)
    host.stop()
    assert run.ends() == 4 and "UNREACHABLE" in run.said(), run.said()


def test_a_key_that_is_never_printed_is_named(tmp_path, host, ec2):
    host.start()
    run = Run(tmp_path, host, ec2, backstop_host_key_timeout=3)
    assert run.ends() != 0 and f"the console output of {INSTANCE} has no SSH host keys after 3 s" in run.said(), run.said()
    assert "Accepted publickey" not in host.log() and run.pinned() == []


def test_a_given_key_needs_no_aws_and_an_older_instance_no_latest(tmp_path, host, ec2):
    host.start()
    given = Run(tmp_path, host, ec2, backstop_host_keys=[host.key])
    assert given.ends() == 0 and ec2.asked == [], given.said()
    # A pinned key is kept, whatever the console says later.
    ec2.output = PRINTED.format(key=host.other)
    again = Run(tmp_path, host, ec2)
    assert again.ends() == 0 and ec2.asked == [] and again.pinned() == [f"{INSTANCE} {host.key}"], again.said()
    (tmp_path / "known_hosts").unlink()
    ec2.output, ec2.without_latest = PRINTED.format(key=host.key), True
    older = Run(tmp_path, host, ec2)
    assert older.ends() == 0 and "Latest" not in ec2.asked[-1], older.said()


def test_session_manager_is_a_proxy(tmp_path, host, ec2):
    """The real AWS CLI starts the session; a stand-in for its plugin carries the bytes. The address of the inventory is not used."""
    ec2.output = PRINTED.format(key=host.key)
    host.start()
    (tmp_path / "bin").mkdir()
    plugin = tmp_path / "bin/session-manager-plugin"
    plugin.write_text(ec2_host.PLUGIN.format(log=str(tmp_path / "sessions"), port=host.port))
    plugin.chmod(0o755)
    run = Run(tmp_path, host, ec2, backstop_connection="ssm", ansible_host="192.0.2.1", ansible_port=22)
    assert run.ends() == 0 and run.marks.exists(), run.said()
    session = next(asked for asked in ec2.asked if "Target" in asked)
    assert session == {"Target": INSTANCE, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["22"]}}
