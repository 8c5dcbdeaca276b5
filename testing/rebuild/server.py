"""One step of bringing up a server on an image of a volume; each can be repeated: server.py STEP, what is given as JSON on standard input"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pymysql

GIVEN = json.load(sys.stdin)
FOLDER = Path(GIVEN["folder"])
DATA, SOCKET, OPTIONS = FOLDER / "data", FOLDER / "mysqld.sock", FOLDER / "my.cnf"
PATIENCE = 120


def place():
    """The volume is mounted."""
    if DATA.exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    half = FOLDER / "data.half"
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(GIVEN["image"], half)
    (half / "auto.cnf").unlink(missing_ok=True)
    half.rename(DATA)


def start():
    """The server runs, with the donor's settings and an identity of its own."""
    if running():
        return
    own = {"datadir": DATA, "socket": SOCKET, "port": GIVEN["port"], "bind_address": "127.0.0.1", "mysqlx": "OFF", "server_id": GIVEN["server_id"],
           "log_error": FOLDER / "mysqld.log", "pid_file": FOLDER / "mysqld.pid", "skip_replica_start": "ON", "super_read_only": "ON",
           "innodb_buffer_pool_size": "64M", "secure_file_priv": "NULL", "gtid_mode": "ON", "enforce_gtid_consistency": "ON", "relay_log": "relay"}
    donors = {name: value for name, value in GIVEN["options"].items() if "buffer_pool" not in name}
    OPTIONS.write_text("[mysqld]\n" + "".join(f"{name} = {value}\n" for name, value in (donors | own).items()))
    user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.Popen([GIVEN["program"], f"--defaults-file={OPTIONS}", *user], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL, cwd=FOLDER, start_new_session=True)
    until(running, "the server answers: " + str(FOLDER / "mysqld.log"))


def hold():
    """It holds what the backup claims, before it follows anybody."""
    with session() as it:
        if not rows(it, "SHOW REPLICA STATUS"):
            held, claimed = value(it, "SELECT @@GLOBAL.gtid_executed"), GIVEN["gtid_executed"]
            missing = value(it, "SELECT GTID_SUBTRACT(%s, %s)", claimed, held)
            beyond = value(it, "SELECT GTID_SUBTRACT(%s, %s)", held, claimed)
            assert not missing and not beyond, f"it lacks {missing!r}, and has {beyond!r} beyond"


def follow():
    """It follows the primary."""
    source = [GIVEN["primary_host"], int(GIVEN["primary_port"]), GIVEN["user"], GIVEN["password"]]
    with session() as it:
        rows(it, "STOP REPLICA")
        rows(it, "CHANGE REPLICATION SOURCE TO SOURCE_HOST=%s, SOURCE_PORT=%s, SOURCE_USER=%s, SOURCE_PASSWORD=%s, SOURCE_SSL=1, SOURCE_AUTO_POSITION=1", *source)
        rows(it, "START REPLICA")


def catch_up():
    """It has what the backup claims and runs on."""
    with session() as it:
        until(lambda: rows(it, "SELECT 1 FROM performance_schema.replication_connection_status WHERE SERVICE_STATE = 'ON'"), "it follows the primary")


def running():
    try:
        session().close()
        return True
    except pymysql.Error:
        return False


def session():
    return pymysql.connect(unix_socket=str(SOCKET), user="root", autocommit=True)


def rows(it, sql, *given):
    with it.cursor() as cursor:
        cursor.execute(sql, given or None)
        return cursor.fetchall()


def value(it, sql, *given):
    return "".join(rows(it, sql, *given)[0][0].split())


def until(so, what):
    deadline = time.monotonic() + PATIENCE
    while not so():
        assert time.monotonic() < deadline, f"not so within {PATIENCE} s: {what}"
        time.sleep(0.1)


{step.__name__: step for step in (place, start, hold, follow, catch_up)}[sys.argv[1]]()
