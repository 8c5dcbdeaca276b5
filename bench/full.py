"""A full backup and a full restore, against restic and a plain copy of the same files."""

import shutil

import lab

TITLE = "Full backup and full restore"
AIM = "at least twice as fast as restic; restore at 0.8 of cp or better"
RUNS = 3


def measure(tools, size):
    with lab.fresh("full") as folder:
        plain = on_plain_files(tools, size, folder)
        try:
            return plain + "\n\n" + on_btrfs(tools, size, folder)
        except (PermissionError, RuntimeError) as why:
            return f"{plain}\n\nOn btrfs: not measured: {why}"


def on_plain_files(tools, size, folder):
    with lab.loaded_server(tools, size, folder / "data") as server:
        server.flush()
        taken = [backup_once(server, folder / "clone", "clone") for _ in range(RUNS)]
    backup, repository = best(taken), folder / "clone/repository"
    tree = folder / "data"  # the stopped server's files: what restic and cp are given
    restic_backup = best([restic_once(folder / "restic", tree) for _ in range(RUNS)])
    copy = best([copy_once(tree, folder / "copy") for _ in range(RUNS)])
    shard = lab.Shard(server, folder / "recover", "clone", repository=repository)
    restore = best([restore_once(shard, folder / "restored") for _ in range(RUNS)])
    restic_restore = best([restic_restore_once(folder / "restic", folder / "restored") for _ in range(RUNS)])
    rows = [
        ["backup: backstop, clone (the copy included)", f"{backup:.1f}", lab.ratio(restic_backup, backup), lab.ratio(copy, backup)],
        ["backup: restic, of the stopped server's files", f"{restic_backup:.1f}", "1.00", lab.ratio(copy, restic_backup)],
        ["cp -a and sync", f"{copy:.1f}", "", "1.00"],
        ["restore: backstop (step materialise)", f"{restore:.1f}", lab.ratio(restic_restore, restore), lab.ratio(copy, restore)],
        ["restore: restic and sync", f"{restic_restore:.1f}", "1.00", lab.ratio(copy, restic_restore)],
    ]
    return (f"{lab.mib(lab.tree_bytes(tree))} on plain files; the best of {RUNS} runs each, page cache emptied before "
            "each. Ratios are speeds: above 1 is faster than the peer.\n\n") + lab.table(
        ["", "seconds", "speed to restic", "speed to cp"], rows)


def on_btrfs(tools, size, folder):
    with lab.btrfs(size) as mount:
        with lab.loaded_server(tools, size, mount / "data") as server:
            server.flush()
            backup = best([backup_once(server, folder / "btrfs", "btrfs") for _ in range(RUNS)])
        restic = best([restic_once(folder / "restic", mount / "data") for _ in range(RUNS)])
    return "From btrfs to the plain file system:\n\n" + lab.table(
        ["", "seconds", "speed to restic"],
        [["backup: backstop, btrfs", f"{backup:.1f}", lab.ratio(restic, backup)],
         ["backup: restic, of the stopped server's files", f"{restic:.1f}", "1.00"]])


def best(seconds):
    return min(seconds)


def backup_once(server, folder, provider):
    shutil.rmtree(folder, ignore_errors=True)
    shard = lab.Shard(server, folder, provider)
    lab.cold()
    return shard.backstop("backup")[0]


def restic_once(folder, tree):
    shutil.rmtree(folder, ignore_errors=True)
    restic = lab.Restic(folder)
    lab.cold()
    return restic.backup(tree)[0]


def copy_once(tree, to):
    with lab.fresh(to.relative_to(lab.OUT)):
        lab.cold()
        seconds, _, _ = lab.timed("sh", "-c", f"cp -a '{tree}/.' '{to}' && sync -f '{to}'")
        return seconds


def restore_once(shard, into):
    with lab.fresh(into.relative_to(lab.OUT)):
        lab.cold()
        return shard.recover(into)[1]["seconds"]["materialise"]


def restic_restore_once(repository, into):
    with lab.fresh(into.relative_to(lab.OUT)):
        lab.cold()
        return lab.timed("sh", "-c", f"restic restore -q latest --target '{into}' && sync -f '{into}'",
                         env={**lab.ENV, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": "bench",
                              "RESTIC_CACHE_DIR": str(lab.OUT / "restic-cache")})[0]
