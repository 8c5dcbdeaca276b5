"""Finds the device of an EBS volume."""

import glob
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: backstop_volume
short_description: Finds the device of an EBS volume by the ID of the volume
description: The ID is the serial number of the NVMe device. A given device takes precedence.
options:
  volume_id: {description: ID of the volume., type: str, default: ""}
  device: {description: Path of the device., type: str, default: ""}
  mount: {description: Mount point., type: str, required: true}
author: The Backstop maintainers (@backstop)
"""


def by_id(volume_id):
    serial = volume_id.replace("-", "")
    for path in glob.glob("/sys/block/*/device/serial"):
        with open(path) as file:
            if file.read().strip().replace("-", "") == serial:
                return "/dev/" + path.split("/")[3]
    for path in glob.glob("/dev/disk/by-id/*" + serial):
        return os.path.realpath(path)
    return None


def tag(device, name):
    probed = subprocess.run(["blkid", "-p", "-o", "value", "-s", name, device], capture_output=True, text=True, timeout=30)
    return probed.stdout.strip()


def mounted_on(path):
    """Returns the major and minor numbers of the mounted device, or None."""
    with open("/proc/self/mountinfo") as file:
        rows = [line.split() for line in file]
    found = [row[2] for row in rows if row[4] == path]
    return found[-1] if found else None


def main():
    module = AnsibleModule({"volume_id": {"type": "str", "default": ""}, "device": {"type": "str", "default": ""},
                            "mount": {"type": "str", "required": True}}, supports_check_mode=True)
    given, volume_id, mount = module.params["device"], module.params["volume_id"], os.path.realpath(module.params["mount"])
    device = given or by_id(volume_id)
    if not device or not os.path.exists(device):
        module.fail_json(msg="there is no device of the volume `{}`: is it attached to this instance?".format(given or volume_id))
    number = os.stat(device).st_rdev
    number = "{}:{}".format(os.major(number), os.minor(number))
    there = mounted_on(mount)
    if there not in (None, number):
        module.fail_json(msg="{} is taken: another device ({}) is mounted there, not {}".format(mount, there, device))
    kind = tag(device, "TYPE")
    if not kind:
        module.fail_json(msg="{} holds no file system: partitions and volume managers are not supported; set backstop_device".format(device))
    # XFS refuses a second mount of a UUID, and the original volume may be mounted too.
    options = "noatime,nouuid" if kind == "xfs" else "noatime"
    links = [link for link in glob.glob("/dev/disk/by-id/nvme-Amazon*" + volume_id.replace("-", "")) if volume_id]
    stable = links[0] if links else "UUID=" + tag(device, "UUID")
    module.exit_json(changed=False, device=device, type=kind, options=options, stable=stable, mounted=there == number)


if __name__ == "__main__":
    main()
