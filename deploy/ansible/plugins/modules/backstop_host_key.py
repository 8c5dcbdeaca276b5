"""Pins the SSH host key of an EC2 instance, which the instance prints on its console."""

import json
import os
import re
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: backstop_host_key
short_description: Pins the SSH host key of an EC2 instance
description:
  - Runs on the controller. Reads the public host keys from the console output of the instance, where cloud-init prints them
    at the first boot, and writes them to a file of known hosts under the ID of the instance.
  - The private keys never leave the instance.
options:
  instance_id: {description: ID of the instance., type: str, required: true}
  region: {description: "Region of the instance; if empty, that of the AWS CLI.", type: str, default: ""}
  keys: {description: "Public host keys; if empty, those of the console output.", type: list, elements: str, default: []}
  known_hosts: {description: File of known hosts., type: path, required: true}
  timeout: {description: Seconds to wait for the keys., type: int, default: 900}
  interval: {description: Seconds between requests., type: int, default: 10}
author: The Backstop maintainers (@backstop)
"""

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/connection-prereqs-general.html (Get the instance fingerprint)
PRINTED = re.compile(r"BEGIN SSH HOST KEY KEYS(.*?)END SSH HOST KEY KEYS", re.S)
KEY = re.compile(r"\b((?:ssh-|ecdsa-sha2-)[a-z0-9-]+) ([A-Za-z0-9+/]{40,}={0,3})")


def printed_keys(output):
    """Returns the keys of the last complete block of a console output."""
    blocks = PRINTED.findall(output)
    return KEY.findall(blocks[-1]) if blocks else []


def console_output(params):
    """Returns the console output and the error of the request."""
    command = ["aws", "ec2", "get-console-output", "--instance-id", params["instance_id"], "--output", "json"]
    if params["region"]:
        command += ["--region", params["region"]]
    # The latest output needs a Nitro instance; others have the output of the last state change.
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
    for latest in (["--latest"], []):
        asked = subprocess.run(command + latest, capture_output=True, text=True, timeout=120, env=dict(os.environ, AWS_PAGER=""))
        if asked.returncode == 0:
            return json.loads(asked.stdout).get("Output") or "", ""
        if "UnsupportedOperation" not in asked.stderr:
            break
    return "", asked.stderr.strip()


def awaited_keys(module):
    """Waits until the instance has printed its keys."""
    params, until = module.params, time.monotonic() + module.params["timeout"]
    while True:
        try:
            output, error = console_output(params)
        except FileNotFoundError:
            module.fail_json(msg="the controller has no AWS CLI: install it, or set backstop_host_keys")
        except subprocess.TimeoutExpired as expired:
            output, error = "", str(expired)
        keys = printed_keys(output)
        if keys:
            return keys
        if time.monotonic() > until:
            module.fail_json(msg="the console output of {} has no SSH host keys after {} s{}: the image needs cloud-init, or set backstop_host_keys".format(
                params["instance_id"], params["timeout"], " (" + error + ")" if error else ""))
        time.sleep(params["interval"])


def main():
    module = AnsibleModule({
        "instance_id": {"type": "str", "required": True},
        "region": {"type": "str", "default": ""},
        "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
        "known_hosts": {"type": "path", "required": True},
        "timeout": {"type": "int", "default": 900},
        "interval": {"type": "int", "default": 10},
    }, supports_check_mode=True)
    path, name, given = module.params["known_hosts"], module.params["instance_id"], module.params["keys"]
    try:
        with open(path) as file:
            known = file.read().splitlines()
    except FileNotFoundError:
        known = []
    # A pinned key stays: an instance keeps its key, so no later output replaces it.
    pinned = [line for line in known if line.split(" ")[0] == name]
    if pinned and not given:
        module.exit_json(changed=False, keys=pinned)
    keys = [found.groups() for found in map(KEY.search, given) if found] if given else awaited_keys(module)
    if not keys:
        module.fail_json(msg="backstop_host_keys holds no public key, such as `ssh-ed25519 AAAA…`")
    lines = ["{} {} {}".format(name, kind, key) for kind, key in keys]
    # The connection needs the file in check mode, too. It is the controller's, and not a part of the instance.
    with open(path + ".half", "w") as file:
        file.write("".join(line + "\n" for line in known + lines if line not in pinned))
    os.rename(path + ".half", path)
    module.exit_json(changed=False, keys=lines)


if __name__ == "__main__":
    main()
