"""Runs the delivered playbook on an instance, and checks the result."""

import json
import os
import pathlib
import subprocess
import sys

import shard

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAYBOOK = ROOT / "deploy/ansible/playbooks/recover.yml"
BIN = pathlib.Path(sys.executable).parent


def command(inventory, *more, playbook=PLAYBOOK):
    return [str(BIN / "ansible-playbook"), "-i", str(inventory), str(playbook), *more]


def play(primary, instance, *arguments, playbook=PLAYBOOK, within=(), **changed):
    """Starts the playbook, with further arguments, within a command such as nsenter. A variable that is None is left out."""
    folder = instance.folder
    options = folder / "my.cnf"
    given = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "backstop_become": False,
        "backstop_recovery_id": "r1", "backstop_device": instance.device, "backstop_mount": str(instance.mount), "backstop_data_folder": "data",
        "backstop_fstab": False, "backstop_state": str(folder / "state"), "backstop_os_user": "root", "backstop_os_group": "root",
        "backstop_packages": [], "backstop_options_file": str(options), "backstop_socket": str(instance.socket),
        "backstop_log": str(folder / "mysqld.log"), "backstop_bind_address": "127.0.0.1", "backstop_mysql_port": instance.port,
        "backstop_start_command": ["sh", "-c", f"setsid {shard.PROGRAM} --defaults-file={options} >/dev/null 2>&1 </dev/null &"],
        "backstop_options": {"innodb_buffer_pool_size": "64M", "mysqlx": "OFF", "secure_file_priv": "NULL"},
        "backstop_options_here": {"pid_file": str(folder / "m.pid")},
        "backstop_gtid_executed": primary.held, "backstop_primary_host": "127.0.0.1", "backstop_primary_port": primary.port,
        "backstop_mysql_user": "backstop", "backstop_mysql_password": shard.PASSWORD, "backstop_start_timeout": 120, **changed,
    }
    inventory = folder / "inventory.yml"
    given = {name: value for name, value in given.items() if value is not None}
    inventory.write_text(json.dumps({"mysql": {"hosts": {"db": given}}}))
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1", "ANSIBLE_CONFIG": str(PLAYBOOK.parent / "ansible.cfg")}
    return subprocess.Popen([*within, *command(inventory, *arguments, playbook=playbook)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
                            cwd=PLAYBOOK.parent, start_new_session=True)


def joined(primary, instance, *arguments, **changed):
    ran = play(primary, instance, *arguments, **changed)
    said = ran.communicate(timeout=280)[0]
    assert ran.returncode == 0, said
    assert shard.PASSWORD not in said
    return said


def refused(primary, instance, *words, **changed):
    ran = play(primary, instance, **changed)
    said = ran.communicate(timeout=280)[0]
    assert ran.returncode != 0, said
    for word in words:
        assert word in said, said
    assert shard.PASSWORD not in said


def equal(primary, instance):
    """Replicates, holds all that the primary holds, and is read-only."""
    primary.rest()
    held = shard.value(primary.socket, "SELECT @@GLOBAL.gtid_executed")
    shard.until(lambda: shard.value(instance.socket, "SELECT @@GLOBAL.gtid_executed") == held, "it holds all that the primary holds")
    sums = [shard.rows(one.socket, "CHECKSUM TABLE app.t") for one in (primary, instance)]
    primary.begin()
    assert sums[0] == sums[1] and sums[0][0][1]
    state = shard.rows(instance.socket, "SELECT @@super_read_only, @@event_scheduler, @@server_uuid")[0]
    assert state[:2] == (1, "OFF") and state[2] != shard.value(primary.socket, "SELECT @@server_uuid")
    assert not shard.rows(instance.socket, "SELECT 1 FROM mysql.user WHERE user = 'backstop_recovery'")
    assert not (instance.folder / "state/password").exists()
