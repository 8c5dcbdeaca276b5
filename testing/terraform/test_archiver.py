"""Tests of the archiver's instance: applied by a real provider, with its start script run on a separate disk."""

import base64
import hashlib
import os
import shutil
import subprocess

import pytest

import old_provider
from applied import Applied
from moto_server import REGION
from workbench import ROOT

BACKSTOP = ROOT / "target" / "debug" / "backstop"

# Separate machine for the script: everything that it writes is below $1.
MACHINE = """
set -euo pipefail
machine=$1 disk=$2 name=$3
for folder in /etc /usr/local/bin /var/lib; do
    mkdir -p "$machine/upper$folder" "$machine/work$folder"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=$machine/upper$folder,workdir=$machine/work$folder" "$folder"
done
mkdir -p /dev/disk
mount -t tmpfs tmpfs /dev/disk
mkdir /dev/disk/by-id
ln -s "$disk" "/dev/disk/by-id/$name"
PATH="$machine/../programs:$PATH" bash "$machine/../user_data.sh"
mountpoint /var/lib/backstop
[ ! -e /var/lib/backstop/spooled ] || cp /var/lib/backstop/spooled "$machine/found"
echo transactions >/var/lib/backstop/spooled
umount /var/lib/backstop
"""
AWS = """#!/bin/bash
[ "$1 $2" = "s3 cp" ] && exec cp "$PROGRAM" "${@: -1}"
exit 1
"""


def archiver(site, sum):
    return {
        "shard": "orders",
        "secret_arn": f"arn:aws:secretsmanager:{REGION}:123456789012:secret:prod/orders-AbCdEf",
        "orchestrator_urls": ["http://orc1:3000", "http://orc2:3000"],
        "archive": {"semi_sync": True},
        "package": {"s3_bucket": "acme-artifacts", "s3_key": "backstop", "sha256": sum},
        "ami_id": site["image"],
        "vpc_id": site["vpc"],
        "subnet_id": site["subnets"]["b"],
        "database_cidr_blocks": ["10.1.0.0/16"],
        "endpoints": {"mode": "use", "client_security_group_id": site["group"]},
        "bucket": {"name": "acme-backstop", "prefix": "orders"},
    }


def sha256(file):
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def test_the_machine_of_an_archiver(old_bench, moto, site, tmp_path):
    old_provider.fit_shard_archiver(old_bench)
    sum = sha256(BACKSTOP) if BACKSTOP.exists() else "0" * 64
    it = Applied(old_bench, moto, "shard-archiver", archiver(site, sum))
    it.run("apply", "-auto-approve")
    it.run("plan", "-detailed-exitcode")
    said, ec2 = it.outputs(), moto.client("ec2")
    (volume,) = ec2.describe_volumes(VolumeIds=[said["spool_volume_id"]])["Volumes"]
    assert volume["Encrypted"] and volume["Attachments"][0]["InstanceId"] == said["instance_id"]
    script = ec2.describe_instance_attribute(InstanceId=said["instance_id"], Attribute="userData")["UserData"]["Value"]
    (tmp_path / "user_data.sh").write_bytes(base64.b64decode(script))

    try:
        start_it_for_real(tmp_path, said["spool_volume_id"])
    finally:
        it.run("destroy", "-auto-approve")
    left = ec2.describe_volumes(Filters=[{"Name": "tag:Backstop-Shard", "Values": ["orders"]}, {"Name": "tag:Name", "Values": ["backstop-orders-archiver*"]}])
    assert left["Volumes"] == [] and "aws_" not in it.run("state", "list").stdout


def start_it_for_real(folder, volume):
    """The first start formats the empty disk; on another machine with the same disk nothing of it is lost."""
    if os.geteuid() != 0 or not BACKSTOP.exists():
        pytest.skip("the start script is run by root, with target/debug/backstop built (with the feature `aws`)")
    programs = folder / "programs"
    programs.mkdir()
    (programs / "aws").write_text(AWS)
    (programs / "systemctl").write_text(f'#!/bin/bash\necho "$*" >>{folder}/systemctl\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    image = folder / "disk"
    image.touch()
    os.truncate(image, 400 << 20)
    disk = subprocess.check_output(["losetup", "--find", "--show", image], text=True).strip()
    try:
        first = start(folder, "first", disk, volume, BACKSTOP)
        assert first.returncode == 0, first.stdout
        assert not (folder / "first" / "found").exists()
        unit = (folder / "first/upper/etc/systemd/system/backstop-archive-orders.service").read_text()
        assert "ExecStart=/usr/local/bin/backstop --config /etc/backstop/backstop.toml archive orders" in unit
        assert "enable --now backstop-archive-orders.service backstop-report.timer" in (folder / "systemctl").read_text()
        assert "x-systemd.before=backstop-archive-orders.service" in (folder / "first/upper/etc/fstab").read_text()

        second = start(folder, "second", disk, volume, BACKSTOP)
        assert second.returncode == 0 and (folder / "second" / "found").read_text() == "transactions\n", second.stdout

        (folder / "systemctl").unlink()
        forged = start(folder, "third", disk, volume, "/bin/true")
        assert forged.returncode != 0 and "checksum did NOT match" in forged.stdout, forged.stdout
        assert not (folder / "systemctl").exists(), "a forged program is not started"
    finally:
        subprocess.run(["losetup", "--detach", disk], check=True)


def start(folder, machine, disk, volume, program):
    (folder / machine).mkdir()
    # overlay needs folders of a file system that can be its upper one; this may itself be an overlay.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / machine], check=True)
    try:
        name = f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
        command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", MACHINE, "machine", folder / machine, disk, name]
        done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=os.environ | {"PROGRAM": str(program)}, timeout=120)
        kept = folder / f"{machine}.kept"
        shutil.copytree(folder / machine, kept, symlinks=True, ignore=shutil.ignore_patterns("work"))
    finally:
        subprocess.run(["umount", folder / machine], check=True)
    shutil.copytree(kept, folder / machine, symlinks=True, dirs_exist_ok=True)
    return done
