"""Tests of deploy/rundeck: the form of the jobs, and the effect of their commands. No Rundeck server runs here: the tests run
the commands as Rundeck would, with the options in the environment."""

import copy
import getpass
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import jobs
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
JOBS = yaml.safe_load((ROOT / "deploy/rundeck/jobs/backstop.yaml").read_text())
PROGRAM = pathlib.Path(os.environ.get("BACKSTOP", ROOT / "target/debug/backstop"))
GOLDEN = ROOT / "crates/repo/tests/golden/v1/plain"
NEWEST = "20261118T110641Z-00000001"
SERVER_USER = getpass.getuser()


def test_jobs_are_well_formed():
    assert jobs.complaints(JOBS) == []


@pytest.mark.parametrize("spoil, complaint", [
    (lambda job: job.pop("name"), "no name"),
    (lambda job: job.update(schedule={}), "unknown key schedule"),
    (lambda job: job.update(timeout="soon"), "timeout"),
    (lambda job: job.update(uuid="1"), "not a UUID"),
    (lambda job: job["options"][0].pop("valuesUrl"), "has none"),
    (lambda job: job["options"][0].update(regex="("), "regex"),
    (lambda job: job["options"][0].update(valuesUrl="file:/x-${option.nobody.value}"), "nobody"),
    (lambda job: job["options"][0].update(values=["a"], value="b"), "default"),
    (lambda job: job["sequence"]["commands"][0].update(exec="backstop backup ${option.shard}"), "bare path"),
    (lambda job: job["sequence"]["commands"].append({}), "not one command"),
    (lambda job: job["nodefilters"].update(filter=".*"), "other nodes"),
    (lambda job: job["nodefilters"].update(filter="tags: backstop-host"), "other nodes"),
    (lambda job: job["nodefilters"].update(include={"tags": "backstop"}), "unknown key include"),
    (lambda job: job["nodefilters"]["dispatch"].pop("keepgoing"), "no keepgoing"),
    (lambda job: job.update(nodeFilterEditable=True), "chosen at the start"),
    (lambda job: job.update(name="Recover a lost shard"), "other nodes"),
    (lambda job: job.update(loglimit="much"), "no limit"),
    (lambda job: job.update(loglevel="LOUD"), "log level"),
    (lambda job: job["notification"].clear(), "notifies no one"),
    (lambda job: job.update(retry={"retry": "2", "delay": "1m"}), "a retry would repeat back-up-now"),
    (lambda job: job.update(retry={"retry": "2"}), "no delay"),
])
def test_what_is_wrong_is_found(spoil, complaint):
    job = copy.deepcopy(JOBS[0])
    spoil(job)
    assert any(complaint in found for found in jobs.complaints([job])), jobs.complaints([job])


def test_access_is_granted_for_each_job():
    policies = list(yaml.safe_load_all((ROOT / "deploy/rundeck/acl/backstop.aclpolicy").read_text()))
    assert list(jobs.wrong_with_acl(policies, JOBS)) == []
    for name in ("Recover a lost shard", "Prune a shard", "Recover an instance from a backup", "Recover a shard to a moment",
                 "Recover a lost shard on a new instance", "Recover a shard to a moment on a new instance"):
        assert jobs.runners(policies, name) == {"backstop-recoverers"}
    assert "backstop-operators" in jobs.runners(policies, "Back up a shard now")
    policies[1]["for"]["job"][0] = {"match": {"name": "Prune a shard|Destroy"}, "allow": ["run", "delete"]}
    found = list(jobs.wrong_with_acl(policies, JOBS))
    assert any("allows delete" in one for one in found) and any("called Destroy" in one for one in found)
    assert any("no group may run Recover a lost shard" in one for one in found)


def test_a_uuid_used_twice_is_found():
    assert any("twice" in found for found in jobs.complaints([JOBS[0], JOBS[0]]))


@pytest.mark.parametrize("option, good, bad", [
    ("backup", ["", NEWEST], ["latest", f"{NEWEST}; id"]),
    ("volume", ["", "/srv/pitr-1/x"], ["srv", "/srv; id"]),
    ("recovery", ["orders-2026_11"], ["", "../x", "a b"]),
    ("moment", ["2026-11-23T02:21:33Z", "2026-11-23T02:21:33.5+01:00", "after:3e11fa47-71ca-11e1-9e33-c80aa9429562:77",
                "before:3e11fa47-71ca-11e1-9e33-c80aa9429562:nightly:7"], ["2026-11-23T02:21:33", "now", "before:77"]),
])
def test_options_take_what_they_should(option, good, bad):
    found = [each for job in JOBS for each in job["options"] if each["name"] == option]
    assert found
    for each in found:
        assert all(re.fullmatch(each["regex"], value) for value in good)
        assert not any(re.fullmatch(each["regex"], value) for value in bad)


def run(job, options, tmp_path, **more):
    """Runs a job's command with options; the programs are those that were built and installed for the tests."""
    script = ROOT / "deploy/rundeck/bin" / pathlib.Path(job["sequence"]["commands"][0]["exec"]).name
    path = f"{PROGRAM.parent}:{ROOT / '.cache/venv/bin'}:{os.environ['PATH']}"
    given = {f"RD_OPTION_{name.upper()}": value for name, value in options.items()}
    return subprocess.run([script], env={"PATH": path, "HOME": str(tmp_path), **given, **more}, cwd=tmp_path, text=True,
                          capture_output=True, timeout=300)


@pytest.fixture
def shard(tmp_path):
    """A configuration of a shard whose repository has two backups and whose members are all down."""
    # A copy: `verify` records its run.
    shutil.copytree(GOLDEN, tmp_path / "repository")
    (tmp_path / "orders.toml").write_text("user = 'u'\npassword = 'p'\n")
    (tmp_path / "orders.toml").chmod(0o600)
    (tmp_path / "backstop.toml").write_text(
        f"[repository]\nurl = 'file://{tmp_path}/repository'\n[shards.orders]\ncredentials = {{ file = '{tmp_path}/orders.toml' }}\n"
        "topology = { members = ['127.0.0.1:1'] }\n")
    return tmp_path


class Lambda(http.server.BaseHTTPRequestHandler):
    """Lambda's Invoke, for one function."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))
        said = json.dumps(self.server.answer).encode()
        self.send_response(200)
        if self.server.failure:
            self.send_header("x-amz-function-error", self.server.failure)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


@pytest.fixture
def function():
    server = http.server.HTTPServer(("127.0.0.1", 0), Lambda)
    server.asked, server.answer, server.failure = [], {"backup_id": NEWEST}, None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def back_up(function, tmp_path, shard="orders"):
    login = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1",
             "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{function.server_port}"}
    return run(JOBS[0], {"shard": shard}, tmp_path, **login)


def test_a_backup_invokes_the_function(function, tmp_path):
    ran = back_up(function, tmp_path)
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"backup_id": NEWEST}), ran.stderr
    assert function.asked == [("/2015-03-31/functions/backstop-orders/invocations",
                               {"secret_id": "backstop/orders", "kind": "on_demand"})]


def test_a_failed_backup_fails_the_job(function, tmp_path):
    function.answer, function.failure = {"errorType": "Held", "errorMessage": "another run holds it"}, "Unhandled"
    ran = back_up(function, tmp_path)
    assert ran.returncode == 1 and "another run holds it" in ran.stdout and "orders failed" in ran.stderr


def test_a_shard_is_a_name_and_nothing_else(function, tmp_path):
    ran = back_up(function, tmp_path, 'x", "kind": "scheduled')
    assert ran.returncode == 2 and function.asked == []


def test_the_latest_backup_is_found_and_becomes_a_choice(shard):
    ran = run(JOBS[1], {"shard": "orders"}, shard, BACKSTOP_CHOICES=str(shard))
    assert ran.returncode == 0 and NEWEST in ran.stdout, ran.stderr
    choices = json.loads((shard / "backups-orders.json").read_text())
    assert [choice["value"] for choice in choices] == [NEWEST, "20261118T110640Z-00000000"]
    assert all(set(choice) == {"name", "value"} and choice["value"] in choice["name"] for choice in choices)


def test_without_a_backup_no_choices_are_written(shard):
    text = (shard / "backstop.toml").read_text().replace("/repository'", "/nothing'")
    (shard / "backstop.toml").write_text(text)
    ran = run(JOBS[1], {"shard": "orders"}, shard, BACKSTOP_CHOICES=str(shard))
    assert ran.returncode == 21 and "it does not exist" in ran.stderr, ran.stderr
    subprocess.run([PROGRAM, "init"], cwd=shard, check=True, timeout=60)
    ran = run(JOBS[1], {"shard": "orders"}, shard, BACKSTOP_CHOICES=str(shard))
    assert ran.returncode == 21 and "no backup" in ran.stderr, ran.stderr
    assert list(shard.glob("*.json")) == []


def test_the_status_is_shown_and_problems_fail(shard):
    ran = run(JOBS[4], {"shard": "orders"}, shard)
    assert ran.returncode == 1 and "orders" in ran.stdout + ran.stderr, ran.stdout + ran.stderr
    every = run(JOBS[4], {}, shard)
    assert every.returncode == 1 and "orders" in every.stdout + every.stderr


def test_a_shard_is_verified(shard):
    said = {}
    for depth in "index", "content":
        ran = run(JOBS[5], {"shard": "orders", "depth": depth}, shard)
        assert ran.returncode == 0 and "2 backups" in ran.stdout, ran.stdout + ran.stderr
        said[depth] = ran.stdout
    assert said["index"] != said["content"], "the content was read, too"
    pack = next(file for file in (shard / "repository").rglob("*") if file.is_file() and "packs" in file.parts)
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-1])
    damaged = run(JOBS[5], {"shard": "orders", "depth": "index"}, shard)
    assert damaged.returncode == 22, damaged.stdout + damaged.stderr


def test_pruning_is_planned_and_confirmed(shard):
    wrong = run(JOBS[6], {"shard": "orders", "mode": "plan", "confirm": "billing"}, shard)
    assert wrong.returncode == 2 and "not confirmed" in wrong.stderr
    said = {mode: run(JOBS[6], {"shard": "orders", "mode": mode, "confirm": "orders"}, shard) for mode in ("plan", "prune")}
    assert said["plan"].returncode == 0 and "a plan" in said["plan"].stdout, said["plan"].stderr
    assert said["prune"].returncode == 0 and "a plan" not in said["prune"].stdout, said["prune"].stderr


def test_a_lost_shard_is_recovered_as_its_primary(shard):
    chosen = {"shard": "orders", "recovery": "r1", "confirm": "orders", "mode": "plan", "listen": "127.0.0.1"}
    planned = run(JOBS[7], chosen, shard, BACKSTOP_RECOVERIES=str(shard / "recoveries"), BACKSTOP_SERVER_USER=SERVER_USER)
    assert planned.returncode == 0 and "primary" in planned.stdout, planned.stdout + planned.stderr
    for wrong, said in ({"confirm": ""}, "not confirmed"), ({"listen": ""}, "listen"):
        refused = run(JOBS[7], chosen | wrong, shard)
        assert refused.returncode == 2 and said in refused.stderr


def recover(shard, job, **options):
    chosen = {"shard": "orders", "recovery": "r1", "confirm": "orders", "mode": "plan"} | options
    return run(job, chosen, shard, BACKSTOP_RECOVERIES=str(shard / "recoveries"), BACKSTOP_SERVER_USER=SERVER_USER)


def test_a_recovery_is_planned_from_the_backup_chosen(shard):
    ran = recover(shard, JOBS[2], backup="20261118T110640Z-00000000")
    assert ran.returncode == 0 and "20261118T110640Z-00000000" in ran.stdout, ran.stderr
    assert str(shard / "recoveries/r1") in ran.stdout and not (shard / "recoveries").exists()
    assert NEWEST in recover(shard, JOBS[2]).stdout


def test_a_recovery_is_really_begun(shard):
    mysqld = shard / "mysqld"
    mysqld.write_text("#!/bin/sh\necho 'mysqld  Ver 9.7.4 for Linux on x86_64'\n")
    mysqld.chmod(0o755)
    with (shard / "backstop.toml").open("a") as file:
        file.write(f"[mysql]\nserver = '{mysqld}'\n")
    ran = recover(shard, JOBS[2], mode="recover")
    assert ran.returncode != 0 and "127.0.0.1:1" in ran.stderr, "it asks the members, who are down"


@pytest.mark.parametrize("job", [JOBS[2], JOBS[3]])
def test_a_recovery_wants_to_be_confirmed(shard, job):
    for wrong, said in [({"confirm": "billing"}, "not confirmed"), ({"confirm": ""}, "not confirmed"), ({"recovery": "../r"}, "name")]:
        ran = recover(shard, job, moment="2026-11-18T11:06:40Z", **wrong)
        assert ran.returncode == 2 and said in ran.stderr


BACKSTOP = """#!/usr/bin/env python3
import json, os, sys
if "--json" in sys.argv:
    print(json.dumps({"backups": [{"backup_id": "20261118T110641Z-00000001", "ebs": {"region": "eu-central-1"}}, {"backup_id": "20261117T110641Z-00000000"}]}))
else:
    print(" ".join(sys.argv[1:]))
"""


@pytest.mark.parametrize("job, options, command", [
    (JOBS[8], {"moment": "2026-11-18T11:06:42Z"}, "--plan --backup {backup} --to 2026-11-18T11:06:42Z --standalone --into {into}"),
    (JOBS[9], {}, "--plan --backup {backup} --to latest --as-primary --into {into}"),
])
def test_a_new_instance_is_only_made_from_a_backup_in_ebs(tmp_path, job, options, command):
    """The repository's backups are in no snapshots: a stand-in for `backstop` has one that is, and one that is not."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/backstop").write_text(BACKSTOP)
    (tmp_path / "bin/backstop").chmod(0o755)
    more = {"BACKSTOP_RECOVERIES": str(tmp_path / "recoveries"), "BACKSTOP_SERVER_USER": "mysql", "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    asked = {"shard": "orders", "recovery": "r1", "confirm": "orders", "mode": "plan", "volume": "/srv/x", "listen": "10.0.0.1"} | options
    ran = run(job, asked | {"backup": NEWEST}, tmp_path, **more)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "recover orders " + command.format(backup=NEWEST, into=tmp_path / "recoveries/r1")
    for backup, said in ("20261117T110641Z-00000000", "is not in EBS snapshots"), ("", "is not in EBS snapshots"), ("20261101T000000Z-00000000", "there is no backup"):
        refused = run(job, asked | {"backup": backup}, tmp_path, **more)
        assert refused.returncode == 1 and said in refused.stderr and refused.stdout == "", refused.stdout + refused.stderr
    wrong = run(job, asked | {"backup": NEWEST, "confirm": ""}, tmp_path, **more)
    assert wrong.returncode == 2 and "not confirmed" in wrong.stderr


@pytest.mark.parametrize("job", [JOBS[8], JOBS[9]])
def test_no_stored_backup_becomes_a_new_instance(shard, job):
    refused = recover(shard, job, moment="2026-11-18T11:06:40Z", backup=NEWEST)
    assert refused.returncode == 1 and f"backup {NEWEST} is not in EBS snapshots" in refused.stderr, refused.stderr


def test_a_moment_that_cannot_be_reached_is_refused(shard):
    ran = recover(shard, JOBS[3], moment="2026-11-18T12:00:00Z")
    assert ran.returncode == 21 and "nearest recoverable" in ran.stderr
    planned = recover(shard, JOBS[3], moment="2026-11-18T11:06:40Z")
    assert planned.returncode == 0 and "plan" in planned.stdout, planned.stderr


def test_a_moment_on_a_volume(shard):
    """The repository's backups are on no volume: the command gets the flag and refuses."""
    asked = {"moment": "2026-11-18T11:06:40Z", "backup": NEWEST, "volume": str(shard / "mounted")}
    for mode in "plan", "recover":
        refused = recover(shard, JOBS[3], mode=mode, **asked)
        assert refused.returncode == 20 and "is not a MySQL data directory" in refused.stderr, refused.stderr
    (shard / "mounted/data").mkdir(parents=True)
    (shard / "mounted/data/ibdata1").touch()
    planned = recover(shard, JOBS[3], **asked)
    assert planned.returncode == 0 and str(shard / "mounted") in planned.stdout, planned.stderr
    wrong = recover(shard, JOBS[3], **{**asked, "volume": "mounted"})
    assert wrong.returncode == 2 and "absolute path" in wrong.stderr
