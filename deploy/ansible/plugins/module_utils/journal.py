"""The journal of a recovery on the instance: the GTID set of the backup, and the completed steps."""

import json
import os


def read(folder):
    """Returns the journal in a folder."""
    with open(os.path.join(folder, "journal")) as file:
        return json.load(file)


def note(folder, journal, step):
    """Records a completed step, and keeps the owner of the journal."""
    if step in journal["done"]:
        return
    journal["done"].append(step)
    kept = os.stat(os.path.join(folder, "journal"))
    write(os.path.join(folder, "journal"), json.dumps(journal), owner=kept.st_uid, group=kept.st_gid)


def write(path, text, mode=0o600, owner=-1, group=-1):
    """Replaces a file atomically and durably."""
    half = path + ".half"
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chown(half, owner, group)
    os.chmod(half, mode)
    os.rename(half, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
