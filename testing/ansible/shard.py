"""Primary on an XFS image, under load, and copies of the image that stand in for EBS snapshots."""

import http.server
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import threading
import time

import pymysql

PROGRAM = os.environ.get("BACKSTOP_TEST_MYSQLD", "mysqld")
PASSWORD = "s3cret of the test"
PATIENCE = 120


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def until(so, what):
    deadline = time.monotonic() + PATIENCE
    while not so():
        assert time.monotonic() < deadline, f"not so within {PATIENCE} s: {what}"
        time.sleep(0.1)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def rows(socket_path, sql, *values, user="root", password=""):
    with pymysql.connect(unix_socket=str(socket_path), user=user, password=password, autocommit=True) as session, session.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall()


def value(socket_path, sql, *values):
    return str(rows(socket_path, sql, *values)[0][0]).replace("\n", "")


def kill_server_on(datadir):
    """SIGKILL to the server whose working directory this is; waits until it is gone."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(datadir):
                os.kill(int(entry.name), 9)
                until(lambda: not (entry / "exe").exists() or "Z" in (entry / "stat").read_text().split()[2], "the server is gone")
        except (OSError, IndexError):
            pass


def let_go(mount):
    """Unmounts; a killed process holds its files for a moment longer."""
    until(lambda: subprocess.run(["umount", str(mount)], capture_output=True, timeout=60).returncode == 0, f"{mount} is unmounted")


def cannot_mount(folder):
    """Returns the reason why images cannot be mounted here, such as a container without loop devices; empty if they can."""
    image, mount = folder / "probe.img", folder / "probe"
    mount.mkdir()
    run("truncate", "-s", "512M", image)
    run("mkfs.xfs", "-q", image)
    tried = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], capture_output=True, text=True, timeout=60)
    if tried.returncode == 0:
        let_go(mount)
    image.unlink()
    return tried.stderr.strip()


class Primary:
    def __init__(self, folder):
        self.folder, self.image, self.mount = folder, folder / "primary.img", folder / "primary"
        self.socket, self.port, self.datadir = folder / "p.sock", free_port(), folder / "primary/data"
        self.loads = False
        run("truncate", "-s", "1G", self.image)
        run("mkfs.xfs", "-q", self.image)
        self.mount.mkdir()
        run("mount", "-o", "loop", self.image, self.mount)
        own = ["--no-defaults", f"--datadir={self.datadir}", "--user=root", "--innodb-redo-log-capacity=16M"]
        run(PROGRAM, *own, "--initialize-insecure", f"--log-error={folder}/init.log")
        self.child = subprocess.Popen([PROGRAM, *own, f"--socket={self.socket}", f"--port={self.port}", "--bind-address=127.0.0.1", "--mysqlx=OFF",
                                       "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--server-id=1", "--innodb-buffer-pool-size=64M",
                                       "--secure-file-priv=NULL", f"--log-error={folder}/primary.log", f"--pid-file={folder}/primary.pid"])
        until(self.answers, "the primary answers")
        for sql in ("CREATE USER backstop IDENTIFIED BY %s", "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO backstop"):
            rows(self.socket, sql, *([PASSWORD] if "%s" in sql else []))
        rows(self.socket, "CREATE DATABASE app")
        rows(self.socket, "CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(64))")
        self.begin()

    def answers(self):
        assert self.child.poll() is None, (self.folder / "primary.log").read_text()
        try:
            return bool(rows(self.socket, "SELECT 1"))
        except pymysql.Error:
            return False

    def begin(self):
        def write():
            with pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True) as session, session.cursor() as cursor:
                while self.loads:
                    cursor.execute("INSERT INTO app.t (v) VALUES (UUID())")
                    time.sleep(0.01)
        self.loads = True
        self.writer = threading.Thread(target=write, daemon=True)
        self.writer.start()

    def rest(self):
        self.loads = False
        self.writer.join(PATIENCE)

    def snapshot(self, image):
        """Copies the image while the server is frozen; gives the GTID set it was frozen at."""
        with pymysql.connect(unix_socket=str(self.socket), user="root") as session, session.cursor() as cursor:
            cursor.execute("FLUSH TABLES WITH READ LOCK")
            cursor.execute("FLUSH LOCAL BINARY LOGS")
            cursor.execute("FLUSH LOCAL ENGINE LOGS")
            cursor.execute("SELECT @@GLOBAL.gtid_executed")
            held = cursor.fetchone()[0].replace("\n", "")
            # EBS takes what was written to the device in one instant; here the file system is quiet while it is copied.
            run("xfs_freeze", "-f", self.mount)
            try:
                run("cp", "--sparse=always", self.image, image)
            finally:
                run("xfs_freeze", "-u", self.mount)
        return held

    def end(self):
        self.rest()
        kill_server_on(self.datadir)
        self.child.wait()
        let_go(self.mount)


class Volume:
    """Volume of an instance: a loop device, under the name that udev gives to an EBS volume."""

    def __init__(self, image):
        self.image, self.volume_id = image, "vol-" + secrets.token_hex(8)
        self.device = run("losetup", "--show", "-f", image)
        self.link = pathlib.Path("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + self.volume_id.replace("-", ""))
        self.link.parent.mkdir(parents=True, exist_ok=True)
        self.link.symlink_to(self.device)

    def end(self):
        self.link.unlink()
        run("losetup", "-d", self.device)


class Instance:
    """Instance that Terraform would create: this host, with a volume from the snapshot."""

    def __init__(self, folder, image):
        folder.mkdir()
        self.folder, self.mount, self.socket, self.port = folder, folder / "mysql", folder / "m.sock", free_port()
        run("cp", "--sparse=always", image, folder / "volume.img")
        self.volumes, self.mounts = [Volume(folder / "volume.img")], [self.mount]
        self.device = self.volumes[0].device

    def split(self):
        """The redo log is on a second volume, as of a server that had it there."""
        first, second = self.folder / "first", self.folder / "second"
        image = self.folder / "redo.img"
        run("truncate", "-s", "512M", image)
        run("mkfs.xfs", "-q", image)
        for one, at in ((self.device, first), (image, second)):
            at.mkdir()
            run("mount", "-o", "loop,nouuid" if one == image else "nouuid", one, at)
        shutil.move(first / "data/#innodb_redo", second / "#innodb_redo")
        for at in (first, second):
            let_go(at)
        self.volumes.append(Volume(image))
        self.mounts.append(self.folder / "redo")

    def end(self):
        kill_server_on(self.mount / "data")
        # A mount below another is let go first.
        for at in sorted(self.mounts, reverse=True):
            if os.path.ismount(at):
                let_go(at)
        for volume in self.volumes:
            volume.end()


class Orchestrator:
    """Serves what a real one was recorded to answer, with this primary in it: a node that does not lead, and the leader."""

    def __init__(self, port):
        recorded = pathlib.Path(__file__).parents[2] / "crates/adapters/tests/fixtures/orchestrator"
        self.cluster, self.asked = json.loads((recorded / "03-cluster-alias.json").read_text()), []
        self.moves_to(port)
        self.servers = [self.serve(leads) for leads in (False, True)]
        self.urls = ["http://127.0.0.1:{}".format(one.server_port) for one in self.servers]

    def moves_to(self, port):
        primary = next(one for one in self.cluster if one["ReplicationDepth"] == 0)
        primary["Key"] = {"Hostname": "127.0.0.1", "Port": port}

    def serve(self, leads):
        outer = self

        class Node(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append((leads, self.path))
                answers = {"/api/leader-check": "OK", "/api/cluster/alias/orders": outer.cluster} if leads else {}
                self.send_response(200 if self.path in answers else 404)
                self.end_headers()
                self.wfile.write(json.dumps(answers.get(self.path, "Not leader")).encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Node)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def end(self):
        for one in self.servers:
            one.shutdown()
            one.server_close()
