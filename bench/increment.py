"""Two per cent of the pages dirtied at random: bytes stored and time, against restic and the 512 KiB unit of EBS."""

import pathlib
import random

import lab

TITLE = "Increment: 2 % of the pages dirtied at random"
AIM = "changed bytes at most 1.2 times the changed pages; stored at most a tenth of restic; at least 5 times as fast as restic; grows with the change, not with the database"
SHARE = 0.02
EBS_UNIT = 512 * 1024
PAGES_PER_STATEMENT = 200


def measure(tools, size):
    try:
        small, large = on_btrfs(tools, size / 4, None), on_btrfs(tools, size, None)
        same = on_btrfs(tools, size, small["dirtied"])
    except PermissionError as why:
        return f"Not measured: {why}."
    return f"{bytes_table(large)}\n\n{time_table(large)}\n\n{growth_table(small, same)}"


def bytes_table(m):
    changed = m["pages"] * lab.PAGE
    rows = [
        ["changed pages of 16 KiB (compared byte by byte)", lab.mib(changed), "1.00", ""],
        ["backstop, changed_bytes (before compression)", lab.mib(m["report"]["changed_bytes"]),
         lab.ratio(m["report"]["changed_bytes"], changed), ""],
        ["backstop, stored", lab.mib(m["backstop_bytes"]), lab.ratio(m["backstop_bytes"], changed), "1.00"],
        ["restic, stored", lab.mib(m["restic_bytes"]), lab.ratio(m["restic_bytes"], changed),
         lab.ratio(m["restic_bytes"], m["backstop_bytes"])],
        ["EBS, changed units of 512 KiB (computed, before compression)", lab.mib(m["units"] * EBS_UNIT),
         lab.ratio(m["units"] * EBS_UNIT, changed), lab.ratio(m["units"] * EBS_UNIT, m["backstop_bytes"])],
    ]
    text = (f"{m['dirtied']} table pages were dirtied by one update each; redo, undo and system pages change with them "
            f"and count too. Both tools read the same snapshots of {lab.mib(m['report']['data_bytes'])}.")
    return f"{text}\n\n{lab.table(['', 'bytes', 'ratio to the changed pages', 'ratio to backstop'], rows)}"


def time_table(m):
    rows = [
        ["backstop, btrfs", f"{m['backstop_seconds']:.2f}", "1.00", lab.mib(m["backstop_peak"])],
        ["restic", f"{m['restic_seconds']:.2f}", lab.ratio(m["restic_seconds"], m["backstop_seconds"]),
         lab.mib(m["restic_peak"])],
    ]
    return "Time of that increment, page cache emptied before each:\n\n" + lab.table(
        ["", "seconds", "ratio to backstop", "peak memory"], rows)


def growth_table(small, large):
    rows = [[lab.mib(m["report"]["data_bytes"]), m["dirtied"], lab.mib(m["report"]["changed_bytes"]),
             f"{m['backstop_seconds']:.2f}", f"{m['restic_seconds']:.2f}"] for m in (small, large)]
    rows.append([f"× {lab.ratio(large['report']['data_bytes'], small['report']['data_bytes'])}", "× 1.00",
                 f"× {lab.ratio(large['report']['changed_bytes'], small['report']['changed_bytes'])}",
                 f"× {lab.ratio(large['backstop_seconds'], small['backstop_seconds'])}",
                 f"× {lab.ratio(large['restic_seconds'], small['restic_seconds'])}"])
    return "Growth with the size of the database, the same number of pages dirtied:\n\n" + lab.table(
        ["database", "pages dirtied", "changed", "backstop seconds", "restic seconds"], rows)


def on_btrfs(tools, size, pages):
    """One increment after `pages` were dirtied (None: the share of all)."""
    with lab.fresh("increment") as folder, lab.btrfs(size) as mount:
        with lab.loaded_server(tools, size, mount / "data") as server:
            server.flush()
            shard = lab.Shard(server, folder / "backstop", "btrfs")
            restic = lab.Restic(folder / "restic")
            shard.backstop("backup")
            before = snapshot(mount, "before")
            with seen_as(mount, before) as tree:
                restic.backup(tree)
            stored = lab.tree_bytes(shard.repository), lab.tree_bytes(restic.folder)

            dirtied = dirty(server, size, pages)
            server.flush()
            lab.cold()
            seconds, peak, report = shard.backstop("backup")
            if not report["parent"]:
                raise RuntimeError("backstop made a full backup where an increment was expected")
            after = snapshot(mount, "after")
            lab.cold()
            with seen_as(mount, after) as tree:
                restic_seconds, restic_peak = restic.backup(tree)
        return {
            "dirtied": dirtied, "report": report,
            "pages": changed_units(before, after, lab.PAGE), "units": changed_units(before, after, EBS_UNIT),
            "backstop_seconds": seconds, "backstop_peak": peak,
            "backstop_bytes": lab.tree_bytes(shard.repository) - stored[0],
            "restic_seconds": restic_seconds, "restic_peak": restic_peak,
            "restic_bytes": lab.tree_bytes(restic.folder) - stored[1],
        }


def snapshot(mount, name):
    lab.run("btrfs", "subvolume", "snapshot", "-r", mount / "data", mount / name)
    return mount / name


class seen_as:
    """Shows a snapshot to restic at one and the same path, where it recognises unchanged files."""

    def __init__(self, mount, tree):
        self.path, self.tree = mount / "tree", tree

    def __enter__(self):
        self.path.mkdir()
        lab.run("mount", "--bind", self.tree, self.path)
        return self.path

    def __exit__(self, *_):
        lab.run("umount", self.path)
        self.path.rmdir()


def dirty(server, size, pages):
    """Updates one row in each of `pages` different table pages (None: the share of all of them): how many."""
    rows = lab.rows_for(size)
    table_bytes = sum(path.stat().st_size for path in (server.datadir / "sbtest").glob("*.ibd"))
    all_pages = table_bytes // lab.PAGE
    pages = pages or int(all_pages * SHARE)
    rows_per_page = 70  # of the clustered index; a little less than fits, so that two never share a page
    spots = [(table, first) for table in range(1, lab.TABLES + 1) for first in range(1, rows, rows_per_page * 2)]
    chosen = random.Random(2).sample(spots, min(pages, len(spots)))
    for begin in range(0, len(chosen), PAGES_PER_STATEMENT):
        updates = [f"UPDATE sbtest{table} SET pad = REVERSE(pad) WHERE id = {row};"
                   for table, row in chosen[begin:begin + PAGES_PER_STATEMENT]]
        server.sql("USE sbtest; BEGIN;" + "".join(updates) + "COMMIT;")
    return len(chosen)


def changed_units(before, after, unit):
    """Units of the files in `after` that differ from the same place in `before`."""
    changed = 0
    for path in pathlib.Path(after).rglob("*"):
        if path.is_file():
            changed += changed_in_file(pathlib.Path(before) / path.relative_to(after), path, unit)
    return changed


def changed_in_file(old, new, unit):
    if not old.is_file():
        return -(-new.stat().st_size // unit)
    changed, chunk = 0, max(unit, 4 << 20)
    with open(old, "rb") as a, open(new, "rb") as b:
        while there := b.read(chunk):
            here = a.read(chunk)
            if here != there:
                changed += sum(here[at:at + unit] != there[at:at + unit] for at in range(0, len(there), unit))
    return changed
