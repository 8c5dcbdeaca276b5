"""Where the volumes of an instance are mounted: a table of inventories and settings."""

import importlib.util

import pytest
from ansible.errors import AnsibleFilterError

from recovery import ROOT

SPEC = importlib.util.spec_from_file_location("mounts", ROOT / "deploy/ansible/plugins/filter/mounts.py")
mounts = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mounts)


def volume(name, *points):
    return {"volume_id": name, "mount_points": list(points)}


@pytest.mark.parametrize("volumes, settings, places", [
    # The role's own settings, for volumes without mount points.
    ([{"volume_id": "a"}], {}, [("a", "/var/lib/mysql", True)]),
    ([volume("a")], {"mount": "/srv/mysql/"}, [("a", "/srv/mysql", True)]),
    ([volume("a"), volume("b")], {"points": ["/srv/data", "/srv"]}, [("b", "/srv", False), ("a", "/srv/data", True)]),
    ([], {"device": "/dev/loop7"}, [("", "/var/lib/mysql", True)]),
    ([volume("a", "/x"), volume("b", "/y")], {"device": "/dev/loop7", "mount": "/srv"}, [("", "/srv", True)]),
    # The mount points of the inventory.
    ([volume("a", "/data/mysql")], {}, [("a", "/data/mysql", True)]),
    ([volume("a", "/data/mysql")], {"mount": "/mnt/copy"}, [("a", "/mnt/copy", True)]),
    ([volume("a", "/var/lib/mysql/redo", "/redo"), volume("b", "/var/lib/mysql", "/x")], {},
     [("b", "/var/lib/mysql", True), ("a", "/var/lib/mysql/redo", False)]),
    ([volume("a", "/binlog"), volume("b", "/data")], {"mount": "/data"}, [("a", "/binlog", False), ("b", "/data", True)]),
])
def test_places(volumes, settings, places):
    found = mounts.mounts(volumes, **settings)
    assert [(one["volume_id"], one["mount"], one["data"]) for one in found] == places
    assert all(one["device"] == settings.get("device", "") for one in found)


@pytest.mark.parametrize("volumes, settings, words", [
    ([], {}, "set backstop_volumes or backstop_device"),
    ([{"mount_points": ["/a"]}], {}, "has no volume_id"),
    ([volume("a", "/a"), volume("b")], {}, "b has no mount_points and others do"),
    ([volume("a", "/a"), volume("b")], {"mount": "/a"}, "b has no mount_points and others do"),
    ([volume("a", "/a")], {"points": ["/a"]}, "backstop_mount_points is set: remove one of them"),
    ([volume("a"), volume("b")], {"points": ["/a"]}, "backstop_mount_points has 1 entries, and there are 2 volumes"),
    ([volume("a"), volume("b")], {"mount": "/a"}, "2 volumes without mount_points: set backstop_mount_points"),
    ([volume("a", "/a"), volume("b", "/a/")], {"mount": "/a"}, "/a is the mount point of two volumes"),
    ([volume("a", "/a"), volume("b", "/b")], {}, "set backstop_mount to the mount point of the data directory, one of /a, /b"),
    ([volume("a", "/a"), volume("b", "/b")], {"mount": "/c"}, "backstop_mount is /c, and the volumes are mounted at /a, /b"),
    ([volume("a", "/")], {}, "`/` is not the mount point of a volume"),
    ([volume("a", "data")], {}, "`data` is not the mount point of a volume"),
])
def test_what_is_not_certain_is_refused(volumes, settings, words):
    with pytest.raises(AnsibleFilterError) as refused:
        mounts.mounts(volumes, **settings)
    assert words in str(refused.value)
