"""Fixtures of the tests: a primary under load, and an instance with a volume from its snapshot."""

import os
import shutil

import pytest

import shard


@pytest.fixture(scope="module")
def primary(tmp_path_factory):
    yield from started(tmp_path_factory)


@pytest.fixture
def own_primary(tmp_path_factory):
    """For a test that changes the primary for good: a worker may run it before others of its module."""
    yield from started(tmp_path_factory)


def started(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("left out: only root can mount the image that stands in for a volume")
    if not shutil.which("mkfs.xfs"):
        pytest.skip("left out: there is no mkfs.xfs")
    folder = tmp_path_factory.mktemp("a")
    if why := shard.cannot_mount(folder):
        pytest.skip(f"left out: no image can be mounted here: {why}")
    one = shard.Primary(folder)
    shard.until(lambda: int(shard.value(one.socket, "SELECT COUNT(*) FROM app.t")) > 50, "load")
    one.snapshotted = one.folder / "snapshot.img"
    one.held = one.snapshot(one.snapshotted)
    yield one
    one.end()


@pytest.fixture
def instance(primary, tmp_path):
    one = shard.Instance(tmp_path / "host", primary.snapshotted)
    yield one
    one.end()
