"""Tests of the role on a dedicated instance, whose image has started its own server."""

import re

import pytest

import shard
from dedicated import Dedicated
from recovery import equal, joined, refused


@pytest.fixture
def dedicated(instance):
    one = Dedicated(instance)
    yield one
    one.end()


def settings(dedicated, **more):
    return {"backstop_start_command": [], "backstop_service": "mysqld", "backstop_selinux": True, "within": dedicated.within} | more


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "inventory.yml")


def test_the_image_server_is_stopped_and_the_recovered_one_started(primary, instance, dedicated):
    dedicated.start_image_server()
    image = (dedicated.folder / "image.cnf").read_text()
    assert len(dedicated.servers()) == 1
    before = contents(dedicated.folder)

    checked = joined(primary, instance, "--check", "--diff", **settings(dedicated))
    assert re.search(r"^\+super_read_only = ON", checked, re.M) and re.search(r"^-socket=.*image.sock", checked, re.M), checked
    assert contents(dedicated.folder) == before and not re.search(r"^(stop|mask|start)", dedicated.said("systemctl.log").split("start mysqld", 1)[1], re.M)
    assert (dedicated.folder / "image.sock").exists(), "a check stops nothing"

    joined(primary, instance, **settings(dedicated))
    asked = dedicated.said("systemctl.log")
    order = [asked.rindex(word) for word in ("\nmask mysqld", "\nstop mysqld", "\nunmask mysqld", "\nstart mysqld")]
    assert order == sorted(order), asked
    assert dedicated.servers() == [str(instance.mount / "data")]
    # The image's own options are kept.
    kept = [file for file in dedicated.folder.glob("my.cnf.*~") if file.read_text() == image]
    assert len(kept) == 1, list(dedicated.folder.iterdir())
    assert f"semanage fcontext --add --type mysqld_db_t {instance.mount}(/.*)?" in dedicated.said("selinux")
    assert f"semanage fcontext --add --type mysqld_etc_t {dedicated.folder}/state(/.*)?" in dedicated.said("selinux")
    assert f"restorecon -R {dedicated.folder}/state" in dedicated.said("selinux")
    equal(primary, instance)

    for arguments in ([], ["--check", "--diff"]):
        assert re.search(r"changed=0\s", joined(primary, instance, *arguments, **settings(dedicated)))
    assert dedicated.said("systemctl.log").count("\nstop mysqld") == 1, "the server of a finished recovery is not stopped"


def test_a_server_that_no_unit_stops_is_refused(primary, instance, dedicated):
    other = dedicated.folder / "elsewhere"
    shard.run(shard.PROGRAM, "--no-defaults", f"--datadir={other}", "--user=root", "--initialize-insecure")
    dedicated.run("sh", "-c", f"setsid {shard.PROGRAM} --no-defaults --datadir={other} --user=root --port={shard.free_port()} --mysqlx=OFF --secure-file-priv=NULL"
                  f" --socket=/tmp/{other.parent.parent.name}.sock --log-error={other}.log >/dev/null 2>&1 </dev/null &")
    shard.until(lambda: dedicated.servers() == [str(other)], "the other server runs")
    # The stand-in for systemctl stops what is of the unit: here nothing.
    dedicated.write(dedicated.folder / "bin/systemctl", (dedicated.folder / "bin/systemctl").read_text().replace("os.kill(pid, signal.SIGTERM)", "pass")
                    .replace("+ 60", "+ 1"))
    refused(primary, instance, "other MySQL servers run on this instance", str(other), **settings(dedicated))
    assert not instance.mount.exists(), "nothing was mounted"
