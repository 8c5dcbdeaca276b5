"""Reports a server that runs on a data directory."""

import os

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: backstop_running
short_description: Reports a server that runs on a data directory
description: Finds a process whose working directory is the data directory, as a MySQL server's is.
options:
  datadir: {description: Data directory., type: str, required: true}
author: The Backstop maintainers (@backstop)
"""


def main():
    module = AnsibleModule({"datadir": {"type": "str", "required": True}})
    datadir, running = os.path.realpath(module.params["datadir"]), False
    for entry in os.listdir("/proc"):
        try:
            running = running or entry.isdigit() and os.readlink("/proc/" + entry + "/cwd") == datadir
        except OSError:
            pass
    module.exit_json(changed=False, running=running)


if __name__ == "__main__":
    main()
