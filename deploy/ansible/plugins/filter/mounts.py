"""Decides where the volumes of a recovered instance are mounted."""

import os.path

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: mounts
short_description: Decides where the volumes of a recovered instance are mounted
description:
  - Returns the mount of each volume, a mount before those below it. C(data) marks the volume with the data directory.
  - A volume with several mount points is mounted at the first.
positional: points, mount, device
options:
  _input: {description: "The volumes, with C(volume_id) and C(mount_points).", type: list, elements: dict, required: true}
  points: {description: Mount points of volumes that have none of their own., type: list, elements: str, default: []}
  mount: {description: Mount point of the volume with the data directory., type: str, default: ""}
  device: {description: Path of the only device., type: str, default: ""}
author: The Backstop maintainers (@backstop)
"""
EXAMPLES = """
mounts: "{{ [{'volume_id': 'vol-1', 'mount_points': ['/var/lib/mysql']}] | backstop.mysql.mounts }}"
"""
RETURN = """
_value: {description: "Mounts with C(volume_id), C(device), C(mount) and C(data).", type: list, elements: dict}
"""

USUAL = "/var/lib/mysql"


def refuse(why):
    raise AnsibleFilterError("cannot decide where the volumes are mounted: " + why)


def mounts(volumes, points=(), mount="", device=""):
    """Returns the mounts, a mount before those below it."""
    volumes = [{"volume_id": ""}] if device else list(volumes)
    if not volumes:
        refuse("there is no volume: set backstop_volumes or backstop_device")
    for volume in volumes:
        if not device and not volume.get("volume_id"):
            refuse("an entry of backstop_volumes has no volume_id")
    mount, places = normal(mount), [normal(place) for place in chosen(volumes, points, mount)]
    for place in places:
        if place == "/" or not place.startswith("/"):
            refuse("`{}` is not the mount point of a volume: set backstop_mount".format(place))
        if places.count(place) > 1:
            refuse("{} is the mount point of two volumes".format(place))
    home = data_mount(places, points, mount)
    found = [{"volume_id": volume["volume_id"], "device": device, "mount": place, "data": place == home} for volume, place in zip(volumes, places)]
    return sorted(found, key=lambda one: one["mount"].count("/"))


def chosen(volumes, points, mount):
    """Returns the mount point of each volume, in the order of the volumes."""
    own = [volume.get("mount_points") or [] for volume in volumes]
    if any(own) and points:
        refuse("backstop_volumes has mount_points, and backstop_mount_points is set: remove one of them")
    if any(own) and not all(own):
        without = [volume["volume_id"] for volume, its in zip(volumes, own) if not its]
        refuse("of backstop_volumes, {} has no mount_points and others do: give all of them mount_points, or none and set "
               "backstop_mount_points".format(", ".join(without)))
    if points:
        if len(points) != len(volumes):
            refuse("backstop_mount_points has {} entries, and there are {} volumes".format(len(points), len(volumes)))
        return points
    if len(volumes) == 1:
        return [mount or (own[0][0] if own[0] else USUAL)]
    if not any(own):
        refuse("there are {} volumes without mount_points: set backstop_mount_points".format(len(volumes)))
    return [its[0] for its in own]


def data_mount(places, points, mount):
    """Returns the mount point of the volume with the data directory."""
    if mount:
        if mount not in places:
            refuse("backstop_mount is {}, and the volumes are mounted at {}".format(mount, ", ".join(places)))
        return mount
    if points or len(places) == 1:
        return places[0]
    if USUAL not in places:
        refuse("set backstop_mount to the mount point of the data directory, one of {}".format(", ".join(places)))
    return USUAL


def normal(path):
    return os.path.normpath(path) if path else ""


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"mounts": mounts}
