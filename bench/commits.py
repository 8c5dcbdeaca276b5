"""Commits during backups: the longest gap, latency and throughput, on the very server that is being backed up."""

import contextlib
import pathlib
import shutil
import subprocess
import time

import lab

TITLE = "Commits during backups"
AIM = "a gap of at most 100 ms at p99; no global lock where lock-free"
BACKUPS = 20
PEER_RUNS = 3
THREADS = 4
HELD = {}  # milliseconds of each freeze, by its mode


def measure(tools, size):
    with lab.fresh("commits") as folder:
        rows, note = on_plain_files(tools, size, folder), ""
        try:
            rows += on_btrfs(tools, size, folder)
        except (PermissionError, RuntimeError) as why:
            note = f"\n\nOn btrfs: not measured: {why}"
    head = ["during", "runs", "seconds each", "longest gap, median", "longest gap, worst", "p99 latency",
            "commits/s", "throughput ratio", "freeze, worst"]
    text = (f"{THREADS} writers (two updates and a commit each) on the one server that is backed up, durable commits. "
            "A gap is the time between two acknowledged commits of any writer; the ratio is to the rate of "
            "the same server without a backup. The freeze is what Backstop reports of itself: how long it held the "
            "backup lock (lock-free: commits go on) or the read lock.")
    return f"{text}\n\n{lab.table(head, rows)}{note}"


def on_plain_files(tools, size, folder):
    with lab.loaded_server(tools, size, folder / "data") as server, load(server, size, folder) as commits:
        clone = lab.Shard(server, folder / "clone", "clone")
        clone.backstop("backup")  # the first is full: the others are what a schedule makes
        windows = in_turn({
            "no backup (plain files)": (BACKUPS, quiet),
            "backstop, clone": (BACKUPS, lambda: backup(clone)),
            "mysqldump --single-transaction": (PEER_RUNS, lambda: mysqldump(tools, server)),
            "mydumper": (PEER_RUNS, lambda: mydumper(server, folder)),
        })
        noted = commits()
    return rows_of(noted, windows)


def on_btrfs(tools, size, folder):
    with lab.btrfs(size) as mount:
        with lab.loaded_server(tools, size, mount / "data") as server, load(server, size, folder) as commits:
            shards = {mode: lab.Shard(server, folder / mode, "btrfs", mode) for mode in ("lock-free", "lock")}
            for shard in shards.values():
                shard.backstop("backup")
            windows = in_turn({
                "no backup (btrfs)": (BACKUPS, quiet),
                "backstop, btrfs lock-free": (BACKUPS, lambda: backup(shards["lock-free"])),
                "backstop, btrfs lock": (BACKUPS, lambda: backup(shards["lock"])),
            })
            noted = commits()
    return rows_of(noted, windows)


def in_turn(works):
    """Does each work so many times, in turns, so that what drifts on the machine meets all alike: the windows of each."""
    windows = {name: [] for name in works}
    HELD.clear()
    for turn in range(max(times for times, _ in works.values())):
        for name, (times, work) in works.items():
            if turn < times:
                windows[name].append(window(work))
    time.sleep(1)  # the last commits of the last window are noted
    return windows


def quiet():
    time.sleep(5)


def rows_of(commits, windows):
    base = rate(commits, next(iter(windows.values())))
    return [row(name, commits, spans, base) for name, spans in windows.items()]


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


def backup(shard):
    """A backup by Backstop; notes for how long it held its freeze."""
    freeze = shard.backstop("backup")[2]["freeze"]
    HELD.setdefault(freeze["mode"], []).append(freeze["held_ms"])


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
            f"{max(gaps):.0f} ms", f"{lab.quantile(latencies, 0.99):.1f} ms", f"{here:.0f}", lab.ratio(here, base), held(name)]


def held(name):
    mode = name.removeprefix("backstop, btrfs ")
    return f"{max(HELD[mode]):.0f} ms" if mode in HELD else "none" if name.startswith("backstop") else ""
