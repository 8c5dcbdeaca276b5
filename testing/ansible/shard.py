"""A primary on an XFS image of its own, under load, and copies of the image taken as EBS takes a snapshot."""

import os
import pathlib
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
    """Why an image cannot be mounted here (a container without loop devices, say); empty if one can."""
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


class Instance:
    """What Terraform has made: a host (this one) with a volume from the snapshot."""

    def __init__(self, folder, image):
        folder.mkdir()
        self.folder, self.mount, self.socket, self.port = folder, folder / "mysql", folder / "m.sock", free_port()
        self.image = folder / "volume.img"
        run("cp", "--sparse=always", image, self.image)
        self.device = run("losetup", "--show", "-f", self.image)

    def end(self):
        kill_server_on(self.mount / "data")
        if os.path.ismount(self.mount):
            let_go(self.mount)
        run("losetup", "-d", self.device)
