"""Variables that are missing or have a wrong type are refused at the start of the role, by name."""

import types

import pytest

from recovery import refused


@pytest.fixture
def nothing(tmp_path):
    """A primary and an instance that do not exist: the role refuses before it looks for them."""
    primary = types.SimpleNamespace(held="11111111-1111-1111-1111-111111111111:1-3", port=1)
    return primary, types.SimpleNamespace(folder=tmp_path, mount=tmp_path / "mysql", socket=tmp_path / "m.sock", port=1, device="/dev/none")


@pytest.mark.parametrize("changed, words", [
    ({"backstop_gtid_executed": None, "backstop_mysql_password": None}, ["missing required arguments: backstop_gtid_executed, backstop_mysql_password"]),
    ({"backstop_mysql_port": "many", "backstop_volumes": "vol-1", "backstop_fstab": "perhaps", "backstop_tls": "a little"},
     ["argument 'backstop_mysql_port' is of type str", "'backstop_volumes'", "argument 'backstop_fstab' is of type str", "value of backstop_tls must be one of"]),
])
def test_refused_by_name(nothing, tmp_path, changed, words):
    refused(*nothing, "Validating arguments", *words, **changed)
    assert not (tmp_path / "state").exists(), "nothing was begun"
