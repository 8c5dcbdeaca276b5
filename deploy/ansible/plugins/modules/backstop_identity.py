"""Removes the identity of the backed-up server from a data directory."""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.backstop.mysql.plugins.module_utils import journal

DOCUMENTATION = """
module: backstop_identity
short_description: Removes the donor's identity, once
description: Removes auto.cnf, so that the server generates a new UUID, and renames mysqld-auto.cnf.
options:
  datadir: {description: Data directory., type: str, required: true}
  state: {description: Folder of the journal., type: str, required: true}
author: The Backstop maintainers (@backstop)
"""


def main():
    module = AnsibleModule({name: {"type": "str", "required": True} for name in ("datadir", "state")}, supports_check_mode=True)
    datadir, state = module.params["datadir"], module.params["state"]
    try:
        entries = journal.read(state)
    except FileNotFoundError:
        # Only a check comes here without a journal.
        module.exit_json(changed=True)
    if "identity" in entries["done"]:
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True)
    if os.path.exists(os.path.join(datadir, "auto.cnf")):
        os.remove(os.path.join(datadir, "auto.cnf"))
    persisted = os.path.join(datadir, "mysqld-auto.cnf")
    if os.path.exists(persisted):
        os.rename(persisted, persisted + ".of-the-backup")
    # The role starts the server only after this entry, so the removed files were the donor's.
    journal.note(state, entries, "identity")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
