"""The archiver: catching up against mysqlbinlog, how far it is behind under load, what semi-sync costs, and memory."""

import contextlib
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import threading
import time

import commits
import lab

TITLE = "Archive"
AIM = ("no slower than mysqlbinlog --raw at half its CPU; at most 1 s behind at p99; at most 256 MiB through a transaction "
       "of 1 GiB")
SECONDS = 20
TURNS = 4
TRANSACTION = 1 << 30


def measure(tools, size):
    with lab.fresh("archive") as folder, lab.loaded_server(tools, size, folder / "data") as server:
        parts = [catch_up(tools, server, folder, size), behind(server, folder, size),
                 semi_sync(server, folder, size), memory(server, folder, size)]
    return "\n\n".join(parts)


def shard(server, folder, *more):
    made = lab.Shard(server, folder, "clone")
    archive = "archive = { from = 'primary'" + "".join(f", {key}" for key in more) + " }\n"
    made.config.write_text(made.config.read_text() + archive)
    return made


def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def with_cpu(work):
    before = cpu()
    seconds, peak, _ = work()
    return seconds, cpu() - before, peak


def catch_up(tools, server, folder, size):
    """Everything that the server has, from nothing, in turns."""
    with load(server, size, folder, 8):
        time.sleep(SECONDS)
    rewrite(server, size)
    names = [line.split("\t")[0] for line in server.sql("SHOW BINARY LOGS").splitlines()]
    server.sql("CREATE USER IF NOT EXISTS raw@'127.0.0.1' IDENTIFIED WITH caching_sha2_password BY 'bench';"
               "GRANT ALL ON *.* TO raw@'127.0.0.1'")
    raw = folder / "raw"
    raw_rows, packed_rows, rows = [], [], []
    for turn in range(3):
        shutil.rmtree(raw, ignore_errors=True)
        raw.mkdir()
        words = [tools / "mysqlbinlog", "--no-defaults", "--read-from-remote-server", "--raw", "--to-last-log", "-uraw",
                 "-pbench", "-h127.0.0.1", f"-P{server.port}", "--get-server-public-key", f"--result-file={raw}/", names[0]]
        raw_rows.append(with_cpu(lambda: lab.timed(*words)))
        size = lab.tree_bytes(raw)
        packed = with_cpu(lambda: lab.timed("sh", "-c", f"zstd -1 -q --rm {raw}/* && sync {raw}/*"))
        packed_rows.append(tuple(one + other for one, other in zip(raw_rows[-1][:2], packed)) + (raw_rows[-1][2],))
        made = shard(server, folder / f"caught-{turn}")
        rows.append(with_cpu(lambda: made.backstop("archive", "--until-caught-up")))
        shutil.rmtree(made.folder)
    best = {"mysqlbinlog --raw": min(raw_rows), "mysqlbinlog --raw, then zstd -1 and sync": min(packed_rows),
            "backstop archive": min(rows)}
    base = min(raw_rows)
    table = [[name, f"{seconds:.2f} s", lab.ratio(seconds, base[0]), f"{used:.2f} s", lab.ratio(used, base[1]), lab.mib(peak)]
             for name, (seconds, used, peak) in best.items()]
    return (f"Catching up with {lab.mib(size)} of binlog, the best of three. `backstop` compresses, hashes and syncs as it streams.\n\n"
            + lab.table(["", "time", "ratio", "CPU", "ratio", "peak memory"], table))


def rewrite(server, size):
    """Every row of every table, in transactions of a thousand: about three times the database in the binlog."""
    rows = lab.rows_for(size)
    for table in range(1, lab.TABLES + 1):
        server.sql("".join(f"UPDATE sbtest.sbtest{table} SET k = k + 1 WHERE id BETWEEN {first} AND {first + 999};"
                           for first in range(1, rows, 1000)))


@contextlib.contextmanager
def load(server, size, folder, threads):
    """As that of `commits`, with so many threads."""
    before, commits.THREADS = commits.THREADS, threads
    try:
        with commits.load(server, size, folder) as read:
            yield read
    finally:
        commits.THREADS = before


class Archiver:
    """A running archiver, and when it told that how many transactions are archived: (monotonic ns, number)."""

    def __init__(self, made):
        words = [str(lab.BACKSTOP), "--config", str(made.config), "--json", "archive", "bench"]
        self.process = subprocess.Popen(words, env={**lab.ENV, "BACKSTOP_LOG": "backstop_engine=debug"},
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.told, self.streaming, self.said = [], threading.Event(), []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not self.streaming.wait(60):
            self.process.kill()
            raise RuntimeError(f"the archiver does not stream: {self.said[-5:]}")

    def read(self):
        for line in self.process.stderr:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            self.said.append(line)
            if "archiving from" in line:
                self.streaming.set()
            with contextlib.suppress(ValueError):
                number = json.loads(line).get("fields", {}).get("archived")
                if number is not None:
                    self.told.append((now, int(number)))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        self.reader.join(10)


def behind(server, folder, size):
    """How old the oldest commit is that is not archived yet, sampled every 10 ms."""
    made = shard(server, folder / "behind")
    made.backstop("archive", "--until-caught-up")
    archiver = Archiver(made)
    with load(server, size, folder, 8) as read:
        begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        time.sleep(SECONDS)
        end = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        noted = [done for done, _ in read()]
    archiver.stop()
    ages, told = [], archiver.told
    for now in range(begin, end, 10_000_000):
        archived = max((number for at, number in told if at <= now), default=0)
        waiting = noted[archived] if archived < len(noted) else now
        ages.append(max(0, now - waiting) / 1e6)
    with load(server, size, folder, 8) as read:
        puts = list(synced_files(folder / "synced"))
        alone = len(read())
    rows = [[name, count, *(f"{value:.0f} ms" for value in [lab.quantile(all_of, 0.5), lab.quantile(all_of, 0.99), max(all_of)])]
            for name, count, all_of in [("age of the oldest commit that is not archived yet", len(noted), ages),
                                        ("one file of 16 KiB and its folder synced, no archiver", alone, puts)]]
    return ("Under a load of 8 threads, and what the disk takes for the least that a put can be (an archived commit waits for up to "
            "two of them, or for one and the pace of 400 ms).\n\n" + lab.table(["", "commits", "p50", "p99", "longest"], rows))


def synced_files(folder):
    """Milliseconds that each of some small files takes until it and its name are on the disk, twice a second."""
    folder.mkdir()
    begin, number = time.monotonic(), 0
    parent = os.open(folder, os.O_RDONLY)
    while time.monotonic() < begin + SECONDS:
        at, number = time.monotonic(), number + 1
        with open(folder / f"{number}.new", "wb") as file:
            file.write(os.urandom(16 << 10))
            file.flush()
            os.fsync(file.fileno())
        os.link(folder / f"{number}.new", folder / str(number))
        os.unlink(folder / f"{number}.new")
        os.fsync(parent)
        took = time.monotonic() - at
        yield took * 1000
        time.sleep(max(0, 0.5 - took))
    os.close(parent)


def semi_sync(server, folder, size):
    server.sql("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';"
               "SET GLOBAL rpl_semi_sync_source_timeout = 4294967295;"
               "SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON")
    made = shard(server, folder / "semi-sync", "semi_sync = true")
    made.backstop("archive", "--until-caught-up")
    rows = []
    for threads in [1, 16]:
        rates = {mode: [] for mode in ["none", "asynchronous", "semi-sync"]}
        # In turns: what else the machine does meets all alike.
        for _ in range(TURNS):
            for mode, measured in rates.items():
                measured.append(committed(made, server, size, folder, threads, mode))
        middle = {mode: statistics.median(measured) for mode, measured in rates.items()}
        shown = [f"{middle[mode]:.0f} ({lab.ratio(middle[mode], middle['none'])})" for mode in ["asynchronous", "semi-sync"]]
        rows.append([threads, f"{middle['none']:.0f} ({min(rates['none']):.0f} to {max(rates['none']):.0f})", *shown])
    return (f"Commits per second without an archiver, with one, and with one that acknowledges after the put (a directory on the "
            f"same disk): the median of {TURNS} turns, and the range of the first.\n\n"
            + lab.table(["threads", "no archiver", "archiver", "archiver, semi-sync"], rows))


def committed(made, server, size, folder, threads, mode):
    """Commits per second."""
    archiver = Archiver(made) if mode != "none" else None
    server.sql(f"SET GLOBAL rpl_semi_sync_source_enabled = {'ON' if mode == 'semi-sync' else 'OFF'}")
    with load(server, size, folder, threads) as read:
        begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        time.sleep(SECONDS / TURNS)
        rate = commits.rate(read(), [(begin, time.clock_gettime_ns(time.CLOCK_MONOTONIC))])
    server.sql("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
    if archiver:
        archiver.stop()
    return rate


def memory(server, folder, size):
    """Peak memory through one large transaction; smaller than 1 GiB only if the bench is small."""
    mebibytes = min(TRANSACTION, int(size * (1 << 30))) >> 20
    made = shard(server, folder / "memory")
    made.backstop("archive", "--until-caught-up")
    server.sql("SET SESSION cte_max_recursion_depth = 100000; CREATE TABLE sbtest.big (v LONGBLOB);"
               f"INSERT INTO sbtest.big WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {mebibytes}) "
               "SELECT REPEAT(CHAR(65 + i % 26), 1048576) FROM n")
    seconds, used, peak = with_cpu(lambda: made.backstop("archive", "--until-caught-up"))
    server.sql("DROP TABLE sbtest.big")
    within = "yes" if peak <= 256 << 20 else "**no**"
    return (f"One transaction of {mebibytes} MiB.\n\n"
            + lab.table(["time", "CPU", "peak memory", "within 256 MiB"], [[f"{seconds:.1f} s", f"{used:.1f} s", lab.mib(peak), within]]))
