"""Creates the recovery's journal on the instance, and the file with which the server creates its temporary administrator."""

import json
import os
import pwd
import secrets

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.backstop.mysql.plugins.module_utils import journal

DOCUMENTATION = """
module: backstop_journal
short_description: Reads or creates the journal of a recovery
description: Creates the journal with the GTID set of the backup, and refuses a journal of another set.
options:
  path: {description: Folder of the journal., type: str, required: true}
  owner: {description: User that the server runs as., type: str, required: true}
  gtid_executed: {description: GTID set of the backup., type: str, required: true}
author: The Backstop maintainers (@backstop)
"""

INIT = """SET SESSION sql_log_bin = 0;
SET @backstop_super_read_only = @@GLOBAL.super_read_only;
SET @backstop_read_only = @@GLOBAL.read_only;
SET GLOBAL super_read_only = OFF;
DROP USER IF EXISTS 'backstop_recovery'@'localhost';
CREATE USER 'backstop_recovery'@'localhost' IDENTIFIED WITH caching_sha2_password BY '{password}' REQUIRE NONE PASSWORD EXPIRE NEVER ACCOUNT UNLOCK;
GRANT ALL PRIVILEGES ON *.* TO 'backstop_recovery'@'localhost' WITH GRANT OPTION;
SET GLOBAL super_read_only = @backstop_super_read_only;
SET GLOBAL read_only = @backstop_read_only;
"""


def begin(module, folder, owner):
    """Writes the password, the file with the password, and the journal last, so that a journal implies all files."""
    os.makedirs(folder, mode=0o750, exist_ok=True)
    # The server may read its init file and must not write here, since later runs trust the folder.
    os.chown(folder, 0 if os.geteuid() == 0 else -1, owner.pw_gid)
    os.chmod(folder, 0o750)
    password = secrets.token_hex(24)
    root = 0 if os.geteuid() == 0 else -1
    journal.write(os.path.join(folder, "password"), password, owner=root)
    journal.write(os.path.join(folder, "init.sql"), INIT.format(password=password), 0o640, root, owner.pw_gid)
    entries = {"gtid_executed": module.params["gtid_executed"], "done": []}
    journal.write(os.path.join(folder, "journal"), json.dumps(entries), owner=root)
    return entries


def main():
    module = AnsibleModule({name: {"type": "str", "required": True} for name in ("path", "owner", "gtid_executed")}, supports_check_mode=True)
    folder, claimed = module.params["path"], module.params["gtid_executed"]
    try:
        owner = pwd.getpwnam(module.params["owner"])
    except KeyError:
        module.fail_json(msg="there is no user `{owner}`: use an image with MySQL".format(**module.params))
    try:
        entries, changed = journal.read(folder), False
    except FileNotFoundError:
        if module.check_mode:
            module.exit_json(changed=True, identity=False, finished=False)
        entries, changed = begin(module, folder, owner), True
    if "".join(entries["gtid_executed"].split()) != "".join(claimed.split()):
        module.fail_json(msg="{} belongs to the recovery of another backup: it claims `{}`, this one `{}`".format(
            folder, entries["gtid_executed"], claimed))
    done = entries["done"]
    module.exit_json(changed=changed, identity="identity" in done, finished="finish" in done)


if __name__ == "__main__":
    main()
