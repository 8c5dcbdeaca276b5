"""What every comparison shares: a server with a sysbench database, file systems, programs that are timed, and
tables for the results. Standard library only."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BACKSTOP = ROOT / "target/release/backstop"
OUT = pathlib.Path(os.environ.get("BENCH_DIR", ROOT / "bench/out"))
TABLES = 8
ROW_BYTES = 300  # measured: bytes of table space for each sysbench row, its index included
PAGE = 16 * 1024
GIB = 1 << 30
ENV = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin"}


def say(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def run(*words, **more):
    """Runs a command to its end; its output is in the result. Raises with what it said if it fails."""
    words = [str(word) for word in words]
    done = subprocess.run(words, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return done


def timed(*words, env=None, cwd=None):
    """Runs a command to its end, its output thrown away: (seconds, peak memory in bytes, standard output).
    The memory is the command's own (VmHWM), without its children's."""
    begin, peak = time.monotonic(), 0
    words = [str(word) for word in words]
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "stdout.txt", "w+") as out, open(OUT / "stderr.txt", "w+") as err:
        child = subprocess.Popen(words, env=env or ENV, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        while child.poll() is None:
            peak = max(peak, high_water(child.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.02)
        seconds = time.monotonic() - begin
        out.seek(0)
        err.seek(0)
        if child.returncode:
            said = err.read()[-1000:] + out.read(1000)
            raise RuntimeError(f"{' '.join(words)}: exit {child.returncode}: {said}")
        return seconds, peak, out.read(64 << 20)


def high_water(pid):
    """The peak resident memory of a living process in bytes; 0 if it is gone."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def cold():
    """Writes everything back and, as root, empties the page cache, so that all start alike."""
    os.sync()
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def tree_bytes(folder):
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


def find_mysql():
    """The folder of the MySQL programs: those on PATH, else the ones that `backstop` has fetched."""
    found = shutil.which("mysqld", path=ENV["PATH"])
    if found and "MariaDB" not in run(found, "--version").stdout:
        return pathlib.Path(found).parent
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "backstop"
    if not sorted(cache.glob("mysql-*/bin/mysqld")):
        say("fetching a MySQL server: running the demo once")
        run(BACKSTOP, "demo", "--json")
    return sorted(cache.glob("mysql-*/bin/mysqld"))[-1].parent


class Server:
    """A MySQL server of the bench, on a data directory of its own."""

    def __init__(self, tools, datadir, buffer_mb=256):
        self.tools, self.datadir, self.buffer_mb = tools, pathlib.Path(datadir), buffer_mb
        self.socket = OUT / "mysqld.sock"
        self.process = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def initialize(self):
        user = ["--user=root"] if os.geteuid() == 0 else []
        run(self.tools / "mysqld", "--no-defaults", "--initialize-insecure", f"--datadir={self.datadir}",
            "--secure-file-priv=NULL", *user)

    def start(self, *more):
        user = ["--user=root"] if os.geteuid() == 0 else []
        log = open(OUT / "mysqld.log", "a")
        self.process = subprocess.Popen(
            [str(self.tools / "mysqld"), "--no-defaults", f"--datadir={self.datadir}", f"--port={self.port}",
             f"--socket={self.socket}", "--bind-address=127.0.0.1", "--mysqlx=OFF", "--server-id=1",
             "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--sync-binlog=1",
             "--innodb-flush-log-at-trx-commit=1", f"--innodb-buffer-pool-size={self.buffer_mb}M",
             "--max-binlog-size=64M", "--secure-file-priv=NULL", "--plugin-load-add=mysql_clone.so",
             *user, *more],
            env=ENV, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"mysqld ended; see {OUT / 'mysqld.log'}")
            with contextlib.suppress(RuntimeError):
                self.sql("SELECT 1")
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"mysqld is not ready; see {OUT / 'mysqld.log'}")
            time.sleep(0.2)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
        self.process = None

    def sql(self, text):
        """Runs statements; gives the last one's rows, tab-separated."""
        done = run(self.tools / "mysql", "--no-defaults", "-uroot", f"--socket={self.socket}", "-N", "-B", input=text)
        return done.stdout

    def flush(self):
        """Writes every dirty page to the data files."""
        self.sql("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0; SET GLOBAL innodb_max_dirty_pages_pct=0")
        deadline = time.monotonic() + 300
        query = "SELECT variable_value FROM performance_schema.global_status " \
                "WHERE variable_name='Innodb_buffer_pool_pages_dirty'"
        while int(self.sql(query)) > 5 and time.monotonic() < deadline:
            time.sleep(0.2)
        self.sql("SET GLOBAL innodb_max_dirty_pages_pct=90; SET GLOBAL innodb_max_dirty_pages_pct_lwm=10")


def rows_for(size):
    """Rows of each table for a database of so many gigabytes."""
    return max(1000, int(size * 1e9 / ROW_BYTES / TABLES))


def sysbench(server, script, size, *more):
    return ["sysbench", str(script), "--db-driver=mysql", f"--mysql-socket={server.socket}", "--mysql-user=root",
            "--mysql-db=sbtest", f"--tables={TABLES}", f"--table-size={rows_for(size)}", *more]


def template(tools, size):
    """A stopped data directory with a sysbench database of `size` gigabytes, made once."""
    folder = OUT / f"template-{size:g}"
    if (folder / "complete").exists():
        return folder / "data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    server = Server(tools, folder / "data", buffer_mb=512)
    say(f"making a database of {size:g} GB")
    server.initialize()
    server.start()
    try:
        server.sql("CREATE DATABASE sbtest; CREATE USER backstop@'127.0.0.1' IDENTIFIED BY 'bench';"
                   "GRANT ALL ON *.* TO backstop@'127.0.0.1' WITH GRANT OPTION;"
                   "SET GLOBAL sync_binlog=0; SET GLOBAL innodb_flush_log_at_trx_commit=0")
        run(*sysbench(server, "oltp_write_only", size, "--threads=2", "prepare"))
        server.sql("FLUSH BINARY LOGS")
        server.sql("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
        server.flush()
    finally:
        server.stop()
    (folder / "complete").touch()
    return folder / "data"


@contextlib.contextmanager
def loaded_server(tools, size, folder):
    """A running server on a copy of the template; `folder` must not exist. Stopped afterwards."""
    OUT.mkdir(parents=True, exist_ok=True)
    source = template(tools, size)
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    run("cp", "-a", f"{source}/.", folder)
    server = Server(tools, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def fresh(name):
    """An empty folder below OUT on the bench's own file system; removed afterwards."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def btrfs(size):
    """A btrfs file system on a loop device, with a subvolume `data` for a database of `size` gigabytes. Only root
    can make one: raises PermissionError otherwise."""
    if os.geteuid() != 0:
        raise PermissionError("only root can mount a btrfs file system")
    image, mount = OUT / "btrfs.img", OUT / "btrfs"
    unmount(mount, image)
    OUT.mkdir(parents=True, exist_ok=True)
    with open(image, "wb") as file:
        file.truncate(int((size * 5 + 4) * GIB))
    run("mkfs.btrfs", "-q", "-f", image)
    mount.mkdir(exist_ok=True)
    run("mount", "-o", "loop,noatime", image, mount)
    try:
        run("btrfs", "subvolume", "create", mount / "data")
        yield mount
    finally:
        unmount(mount, image)


def unmount(mount, image):
    if mount.is_mount():
        run("umount", mount)
    with contextlib.suppress(OSError):
        mount.rmdir()
    image.unlink(missing_ok=True)


class Shard:
    """A shard of one server, as Backstop is configured for it."""

    def __init__(self, server, folder, provider, mode="auto", repository=None):
        self.server, self.folder = server, pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.repository = pathlib.Path(repository or self.folder / "repository")
        credentials = self.folder / "credentials.toml"
        credentials.write_text('user = "backstop"\npassword = "bench"\n')
        credentials.chmod(0o600)
        work = server.datadir.parent / "work" if provider == "btrfs" else self.folder / "work"
        self.config = self.folder / "backstop.toml"
        self.config.write_text(f"""
[repository]
url = "file://{self.repository}"
create = "if-empty"

[mysql]
server = "{server.tools / 'mysqld'}"

[shards.bench]
credentials = {{ file = "{credentials}" }}
topology = {{ members = ["127.0.0.1:{server.port}"] }}
snapshot = {{ provider = "{provider}", work_dir = "{work}" }}
freeze = {{ mode = "{mode}", on_primary = "lock" }}
""")

    def backstop(self, command, *more):
        """Runs `backstop COMMAND bench … --json`: (seconds, peak memory, the report)."""
        if command == "recover" and os.geteuid() == 0:
            more = ("--run-as-root", *more)
        seconds, peak, out = timed(BACKSTOP, "--config", self.config, command, "bench", *more, "--json")
        return seconds, peak, json.loads(out)

    def recover(self, into):
        """Recovers into a folder and stops the server again: (peak memory, the report)."""
        _, peak, report = self.backstop("recover", "--to", "latest", "--into", into, "--standalone")
        stop_recovered(into)
        return peak, report


def stop_recovered(into):
    """Stops the server that a recovery left, by the pid file in its data directory."""
    pid_file = pathlib.Path(into) / "data/mysqld.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)


class Restic:
    """A restic repository without a real secret."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.env = {**ENV, "RESTIC_REPOSITORY": str(self.folder), "RESTIC_PASSWORD": "bench",
                    "RESTIC_CACHE_DIR": str(OUT / "restic-cache")}
        shutil.rmtree(OUT / "restic-cache", ignore_errors=True)
        timed("restic", "init", "-q", "--repository-version", "2", env=self.env)

    def backup(self, tree):
        """(seconds, peak memory)."""
        return timed("restic", "backup", "-q", ".", cwd=tree, env=self.env)[:2]

    def restore(self, into):
        return timed("restic", "restore", "-q", "latest", "--target", into, env=self.env)[:2]


def mib(count):
    return f"{count / (1 << 20):.1f} MiB"


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def ratio(a, b):
    return f"{a / b:.2f}" if b else "–"


def quantile(values, q):
    """The value below which a share `q` of the values lie; 0 if there are none."""
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else 0
