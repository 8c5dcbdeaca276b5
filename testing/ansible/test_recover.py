"""deploy/ansible run for real: a volume that is a copy of a frozen primary's, with the primary's own mounted beside it."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile

import pymysql
import pytest

import ec2_host
import shard
from recovery import BIN, PLAYBOOK, ROOT, command, equal, joined, play, refused


def test_syntax(tmp_path):
    (tmp_path / "inventory.yml").write_text("mysql: {hosts: {db: {}}}\n")
    checked = subprocess.run(command(tmp_path / "inventory.yml", "--syntax-check"), cwd=PLAYBOOK.parent, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def lint(collection, *files):
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1",
                   "ANSIBLE_COLLECTIONS_PATH": str(collection / "collections")}
    done = subprocess.run([str(BIN / "ansible-lint"), "--offline", *files], cwd=collection, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_lint_for_production_knows_every_argument(tmp_path):
    collection = tmp_path / "collection"
    shutil.copytree(ROOT / "deploy/ansible", collection, symlinks=True)
    code, said = lint(collection)
    assert code == 0 and "0 failure(s), 0 warning(s)" in said and "'production' was required, and it passed" in said, said
    tasks = collection / "roles/mysql/tasks/mount.yml"
    tasks.write_text(tasks.read_text().replace("    volume_id:", "    volume_name:", 1))
    code, said = lint(collection, "roles/mysql/tasks/mount.yml")
    assert code != 0 and "Unsupported parameters" in said and "volume_name" in said, said


def test_the_collection_is_installed_and_found(tmp_path):
    """An installed collection brings its modules, its playbooks, and the settings of the connection."""
    galaxy = [str(BIN / "ansible-galaxy"), "collection"]
    shard.run(*galaxy, "build", str(ROOT / "deploy/ansible"), "--output-path", str(tmp_path))
    (built,) = tmp_path.glob("backstop-mysql-*.tar.gz")
    with tarfile.open(built) as archive:
        names = archive.getnames()
    assert {"plugins/module_utils/journal.py", "playbooks/group_vars/mysql.yml"} <= set(names) and not any(name.startswith("collections") for name in names)
    shard.run(*galaxy, "install", str(built), "-p", str(tmp_path / "installed"), "--offline")
    (tmp_path / "inventory.yml").write_text("mysql: {hosts: {db: {ansible_connection: local}}}\n")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "installed"), "ANSIBLE_NOCOLOR": "1"}
    checked = subprocess.run([str(BIN / "ansible-playbook"), "-i", str(tmp_path / "inventory.yml"), "--syntax-check", "backstop.mysql.recover", "backstop.mysql.volume"],
                             cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0 and str(tmp_path / "installed/ansible_collections/backstop/mysql/playbooks/recover.yml") in checked.stdout, checked.stdout + checked.stderr


def test_joins_and_a_second_run_changes_nothing(primary, instance):
    assert "follows its shard's primary" in joined(primary, instance)
    assert os.path.ismount(primary.mount) and os.path.ismount(instance.mount), "both, with one UUID"
    equal(primary, instance)
    assert re.search(r"changed=0\s", joined(primary, instance))


def test_joins_over_ssh(primary, instance):
    """With the variables of the delivered playbook: the key is pinned, and an interrupted connection is made again."""
    host = ec2_host.Host(instance.folder / "ssh")
    host.start()
    over_ssh = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": host.port, "ansible_user": "root",
                "ansible_ssh_private_key_file": str(host.folder / "client"), "backstop_instance_id": ec2_host.INSTANCE, "backstop_host_keys": [host.key]}
    try:
        ran, said = play(primary, instance, **over_ssh), []
        for line in ran.stdout:
            said.append(line)
            if "Write the options]" in line:
                host.stop()
                host.start()
        assert ran.wait(timeout=280) == 0, "".join(said)
        assert (instance.folder / "known_hosts").read_text() == f"{ec2_host.INSTANCE} {host.key}\n"
        assert host.log().count("Accepted publickey") >= 2
        equal(primary, instance)
    finally:
        host.stop()


def test_progress_is_shown_and_a_stall_is_refused(primary, instance):
    """A lock stops the applier. The remaining transactions are shown more than once, and the bound holds over these reports."""
    written = int(shard.value(primary.socket, "SELECT COUNT(*) FROM app.t"))
    shard.until(lambda: int(shard.value(primary.socket, "SELECT COUNT(*) FROM app.t")) > written, "the primary is ahead of the backup")
    ran, said, shown = play(primary, instance, backstop_report_interval=1, backstop_stall_timeout=4), [], []
    with contextlib.ExitStack() as held:
        for line in ran.stdout:
            said.append(line)
            if "(item=own)" in line:
                # The next step starts replication.
                session = held.enter_context(pymysql.connect(unix_socket=str(instance.socket), user="root"))
                session.cursor().execute("LOCK TABLES app.t READ")
            if found := re.match(r"PROGRESS: (\d+) transactions to apply until the server has caught up, after (\d+) s", line):
                assert "(item=caught_up)" not in "".join(said), "shown while the step runs"
                shown.append([int(number) for number in found.groups()])
        assert ran.wait(timeout=280) != 0, "".join(said)
    assert "nothing applied for 4 s" in "".join(said), "".join(said)
    assert len(shown) >= 2 and shown[0][0] > 0 and shown[1][1] > shown[0][1], shown
    joined(primary, instance)
    equal(primary, instance)


# Tasks at which the test kills Ansible and its processes: each that changes something, and each step of joining.
KILLS = ["Create the mount point", "Mount the volume", "Set the owner", "Remove the identity", "Write the options", "Start the server by command", "Wait for its crash recovery",
         "Run the steps of joining", "(item=ready)", "(item=compare)", "(item=forget)", "(item=own)", "(item=follow)", "Remove the temporary administrator",
         "Write the options without"]


def test_killed_at_its_tasks(primary, instance):
    for at in KILLS:
        ran, seen = play(primary, instance), []
        for line in ran.stdout:
            seen.append(line)
            if line.startswith(f"TASK [backstop.mysql.mysql : {at}") or at in line and "(item" in at:
                break
        else:
            raise AssertionError(f"no task {at!r} began: " + "".join(seen))
        os.killpg(ran.pid, signal.SIGKILL)
        ran.communicate()
    joined(primary, instance)
    equal(primary, instance)


def test_a_finished_one_that_does_not_replicate_is_reported(primary, instance):
    joined(primary, instance)
    shard.rows(instance.socket, "STOP REPLICA SQL_THREAD")
    refused(primary, instance, "does not replicate")
    shard.rows(instance.socket, "START REPLICA")


def test_what_is_wrong_is_refused(primary, instance):
    refused(primary, instance, "there is no device", backstop_device="/dev/backstop-none")
    refused(primary, instance, "log in to the primary", backstop_primary_port=shard.free_port())
    # The next run continues from there.
    joined(primary, instance)


def test_the_primary_that_orchestrator_sees_in_that_moment_is_followed(primary, instance):
    orchestrator = shard.Orchestrator(shard.free_port())
    asking = {"backstop_primary_host": "", "backstop_cluster_name": "orders", "backstop_orchestrator_urls": orchestrator.urls}
    try:
        refused(primary, instance, "log in to the primary", **asking)
        # After a failover, the next run follows the new primary.
        orchestrator.moves_to(primary.port)
        joined(primary, instance, **asking)
        equal(primary, instance)
        assert (False, "/api/cluster/alias/orders") not in orchestrator.asked, "only the leader's word counts"
    finally:
        orchestrator.end()


def test_what_orchestrator_cannot_say_is_refused(primary, instance):
    orchestrator = shard.Orchestrator(primary.port)
    asking = {"backstop_primary_host": "", "backstop_cluster_name": "orders", "backstop_orchestrator_urls": orchestrator.urls}
    try:
        refused(primary, instance, "ask orchestrator for the primary of `orders`", **{**asking, "backstop_orchestrator_urls": orchestrator.urls[:1]})
        for one in orchestrator.cluster:
            one["IsRecentlyChecked"] = False
        refused(primary, instance, "0 fresh, writable primaries of `orders`, not one", **asking)
    finally:
        orchestrator.end()


def test_each_volume_is_mounted_where_it_was(primary, instance):
    """The redo log's volume comes first in the inventory, and its mount point is below that of the data: it is mounted after it."""
    instance.split()
    instance.mounts[1] = instance.mount / "redo"
    data, redo = instance.volumes
    known = [{"volume_id": redo.volume_id, "mount_points": [str(instance.mounts[1]), str(instance.folder / "other")]},
             {"volume_id": data.volume_id, "mount_points": [str(instance.mount)]}]
    two = {"backstop_device": "", "backstop_volumes": known,
           "backstop_options_here": {"pid_file": str(instance.folder / "m.pid"), "innodb_log_group_home_dir": str(instance.mounts[1])}}
    mixed = [known[0], {**known[1], "mount_points": []}]
    refused(primary, instance, f"of backstop_volumes, {data.volume_id} has no mount_points and others do", **{**two, "backstop_volumes": mixed})
    assert not instance.mount.exists(), "nothing was mounted"
    missing = [known[0], {**known[1], "volume_id": "vol-00000000000000000"}]
    refused(primary, instance, "there is no device of the volume `vol-00000000000000000`: is it attached to this instance?", **{**two, "backstop_volumes": missing})
    joined(primary, instance, **two)
    for at, volume in zip(instance.mounts, instance.volumes):
        assert shard.run("findmnt", "-n", "-o", "SOURCE", at) == volume.device
    assert not (instance.folder / "other").exists(), "a volume is mounted once"
    equal(primary, instance)


def test_the_volumes_are_only_mounted(primary, instance):
    ran = play(primary, instance, playbook=PLAYBOOK.with_name("volume.yml"))
    said = ran.communicate(timeout=280)[0]
    assert ran.returncode == 0, said
    assert os.path.ismount(instance.mount) and (instance.mount / "data/auto.cnf").exists(), "the data is as it was"
    assert not (instance.folder / "state").exists() and not instance.socket.exists()


def join_module():
    sys.path.insert(0, str(ROOT / "deploy/ansible/collections"))
    spec = importlib.util.spec_from_file_location("backstop_join", ROOT / "deploy/ansible/plugins/modules/backstop_join.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("gtids, count", [("", 0), ("11111111-1111-1111-1111-111111111111:7", 1),
                                          ("11111111-1111-1111-1111-111111111111:1-5:7:nightly:1-2, 22222222-2222-2222-2222-222222222222:3", 9)])
def test_transactions_are_counted(gtids, count):
    assert join_module().transactions(gtids) == count


@pytest.mark.parametrize("version, words", [
    ((5, 7, 44), ("SLAVE", "MASTER", "CHANGE MASTER TO", "RESET MASTER")),
    ((8, 0, 22), ("SLAVE", "MASTER", "CHANGE MASTER TO", "RESET MASTER")),
    ((8, 0, 23), ("REPLICA", "SOURCE", "CHANGE REPLICATION SOURCE TO", "RESET MASTER")),
    ((8, 4, 0), ("REPLICA", "SOURCE", "CHANGE REPLICATION SOURCE TO", "RESET BINARY LOGS AND GTIDS")),
])
def test_the_words_of_each_version(version, words):
    """Of the older ones none can be run here."""
    assert tuple(join_module().vocabulary(version).values()) == words


def test_another_set_is_refused(primary, instance):
    beyond = primary.held + ",11111111-1111-1111-1111-111111111111:1-3"
    refused(primary, instance, "does not hold what the backup claims", "missing `11111111-1111-1111-1111-111111111111:1-3`", backstop_gtid_executed=beyond)
    refused(primary, instance, "another backup")


def test_a_kill_within_the_reset_is_continued(primary, instance):
    """Between RESET BINARY LOGS AND GTIDS and gtid_purged the server's set is empty, and the journal's is used."""
    refused(primary, instance, "log in to the primary", backstop_primary_port=shard.free_port())
    journal = instance.folder / "state/journal"
    entries = json.loads(journal.read_text())
    entries["done"].remove("own")
    journal.write_text(json.dumps(entries))
    password = (instance.folder / "state/password").read_text()
    for sql in ("SET GLOBAL super_read_only = OFF", "RESET BINARY LOGS AND GTIDS"):
        shard.rows(instance.socket, sql, user="backstop_recovery", password=password)
    assert "reset_gtids" in entries["done"]
    joined(primary, instance)
    equal(primary, instance)


def test_what_the_primary_has_purged_is_named(own_primary, tmp_path):
    primary, instance = own_primary, shard.Instance(tmp_path / "host", own_primary.snapshotted)
    for sql in ("FLUSH BINARY LOGS", "INSERT INTO app.t (v) VALUES ('last')"):
        shard.rows(primary.socket, sql)
    newest = shard.rows(primary.socket, "SHOW BINARY LOG STATUS")[0][0]
    shard.rows(primary.socket, f"PURGE BINARY LOGS TO '{newest}'")
    try:
        refused(primary, instance, "has purged binary logs that the backup lacks")
    finally:
        instance.end()
