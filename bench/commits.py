"""Commits during backups: the longest gap, latency and throughput, on the very server that is being backed up."""

import contextlib
import pathlib
import shutil
import subprocess
import time

import lab

TITLE = "Commits during backups"
BACKUPS = 20
PEER_RUNS = 3
THREADS = 4


def measure(tools, size):
    with lab.fresh("commits") as folder:
        rows = [*on_plain_files(tools, size, folder)]
        with contextlib.suppress(PermissionError):
            rows += on_btrfs(tools, size, folder)
    head = ["during", "runs", "seconds each", "longest gap, median", "longest gap, worst", "p99 latency",
            "commits/s", "throughput ratio"]
    text = (f"{THREADS} writers (two updates and a commit each) on the one server that is backed up, durable commits. "
            "A gap is the time between two acknowledged commits of any writer; the ratio is to the rate of "
            "the same server without a backup.")
    return f"{text}\n\n{lab.table(head, rows)}"


def on_plain_files(tools, size, folder):
    with lab.loaded_server(tools, size, folder / "data") as server, load(server, size, folder) as commits:
        quiet = [window(lambda: time.sleep(5)) for _ in range(BACKUPS)]
        shard = lab.Shard(server, folder / "clone", "clone")
        shard.backstop("backup")  # the first is full: the others are what a schedule makes
        clone = [window(lambda: shard.backstop("backup")) for _ in range(BACKUPS)]
        dump = [window(lambda: mysqldump(tools, server)) for _ in range(PEER_RUNS)]
        dumper = [window(lambda: mydumper(server, folder)) for _ in range(PEER_RUNS)]
        time.sleep(1)
        noted = commits()
    base = rate(noted, quiet)
    yield row("no backup (plain files)", noted, quiet, base)
    yield row("backstop, clone", noted, clone, base)
    yield row("mysqldump --single-transaction", noted, dump, base)
    yield row("mydumper", noted, dumper, base)


def on_btrfs(tools, size, folder):
    rows = []
    with lab.btrfs(size) as mount:
        with lab.loaded_server(tools, size, mount / "data") as server, load(server, size, folder) as commits:
            quiet = [window(lambda: time.sleep(5)) for _ in range(BACKUPS)]
            runs = {}
            for mode in ("lock-free", "lock"):
                shard = lab.Shard(server, folder / mode, "btrfs", mode)
                shard.backstop("backup")
                runs[mode] = [window(lambda: shard.backstop("backup")) for _ in range(BACKUPS)]
            time.sleep(1)
            noted = commits()
        base = rate(noted, quiet)
        rows.append(row("no backup (btrfs)", noted, quiet, base))
        rows += [row(f"backstop, btrfs {mode}", noted, windows, base) for mode, windows in runs.items()]
    return rows


def mysqldump(tools, server):
    lab.timed(tools / "mysqldump", "--no-defaults", "-uroot", f"--socket={server.socket}", "--single-transaction",
              "--set-gtid-purged=ON", "--databases", "sbtest")


def mydumper(server, folder):
    lab.timed("mydumper", "-u", "root", "-S", server.socket, "-B", "sbtest", "-t", "2", "-o", folder / "mydumper")
    shutil.rmtree(folder / "mydumper")


@contextlib.contextmanager
def load(server, size, folder):
    """Runs the load meanwhile. Gives a function that reads the commits noted so far: (done, took) in ns, sorted."""
    notes = pathlib.Path(folder) / "notes"
    shutil.rmtree(notes, ignore_errors=True)
    notes.mkdir()
    words = lab.sysbench(server, lab.ROOT / "bench/commits.lua", size, f"--threads={THREADS}", "--time=0",
                         "--events=0", "run")
    writers = subprocess.Popen(words, env={**lab.ENV, "BENCH_COMMITS": str(notes)}, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    time.sleep(3)
    try:
        yield lambda: read(notes)
        if writers.poll() is not None:
            raise RuntimeError(f"the load ended by itself: exit {writers.returncode}")
    finally:
        writers.terminate()
        writers.wait()


def read(notes):
    commits = []
    for file in notes.iterdir():
        lines = file.read_text().split("\n")[:-1]  # the last one may be cut short
        commits += [tuple(map(int, line.split())) for line in lines]
    return sorted(commits)


def window(work):
    begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    work()
    return begin, time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def during(commits, begin, end):
    return [commit for commit in commits if begin <= commit[0] <= end]


def rate(commits, windows):
    seconds = sum(end - begin for begin, end in windows) / 1e9
    return sum(len(during(commits, *window)) for window in windows) / seconds


def longest_gap(commits, begin, end):
    """Milliseconds; the edges of the window count as commits, so that a stop of all writers is seen."""
    times = [begin, *(done for done, _ in during(commits, begin, end)), end]
    return max(after - before for before, after in zip(times, times[1:])) / 1e6


def row(name, commits, windows, base):
    gaps = [longest_gap(commits, *window) for window in windows]
    latencies = [took / 1e6 for window in windows for _, took in during(commits, *window)]
    seconds = [(end - begin) / 1e9 for begin, end in windows]
    here = rate(commits, windows)
    return [name, len(windows), f"{lab.quantile(seconds, 0.5):.1f}", f"{lab.quantile(gaps, 0.5):.0f} ms",
            f"{max(gaps):.0f} ms", f"{lab.quantile(latencies, 0.99):.1f} ms", f"{here:.0f}", lab.ratio(here, base)]
