"""Finds the MySQL servers of a host, and the one on a mounted data directory."""

import os

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: backstop_running
short_description: Finds the MySQL servers of a host
description:
  - Reports a server that runs on the data directory of the mounted volume, and all others.
  - A server on the directory that the mount hides is another one, although its path is the same.
options:
  datadir: {description: Data directory., type: str, required: true}
  mount: {description: Mount point of the volume with the data directory., type: str, required: true}
author: The Backstop maintainers (@backstop)
"""

PROGRAMS = ("mysqld", "mariadbd", "mysqld-debug")


def is_server(process):
    """Tells a server by its name, and by its program if it was started through the dynamic loader."""
    with open(process + "/comm") as file:
        if file.read().strip() in PROGRAMS:
            return True
    with open(process + "/cmdline", "rb") as file:
        words = file.read().decode(errors="replace").split("\0")
    return os.path.basename(words[0]) in PROGRAMS or "--argv0" in words[:6] and any(os.path.basename(word) in PROGRAMS for word in words[:8])


def main():
    module = AnsibleModule({name: {"type": "str", "required": True} for name in ("datadir", "mount")}, supports_check_mode=True)
    datadir, running, others = module.params["datadir"], False, []
    there = None
    if os.path.ismount(module.params["mount"]) and os.path.isdir(datadir):
        there = os.stat(datadir)
    for entry in os.listdir("/proc"):
        process = "/proc/" + entry
        try:
            if not entry.isdigit():
                continue
            # MySQL makes the data directory its working directory.
            where = os.stat(process + "/cwd")
            if there and (where.st_dev, where.st_ino) == (there.st_dev, there.st_ino):
                running = running or is_server(process)
            elif is_server(process):
                others.append("{} in {}".format(entry, os.readlink(process + "/cwd")))
        except OSError:
            pass
    module.exit_json(changed=False, running=running, others=sorted(others))


if __name__ == "__main__":
    main()
