"""AWS for one test: cloud.py FOLDER PRIMARY SOURCE MEMBER MOUNT

moto's server with a network in two zones, the instances of a shard's primary and of the source of its backups, and a bucket for
states; and a copy of the modules under FOLDER/terraform that a provider of 2021 can apply. Says where everything is in one
line of JSON, and serves until it is ended.

MEMBER is the folder of the source's server: `data` in it is on the volume /dev/sdf, which recovered instances mount at MOUNT. If there
is `redo`, that is a volume of its own, /dev/sdg, which the server sees as `redo` beside MEMBER; both then have tags with their mount
points.

EBS is stood in for: when snapshots are made, the folder of each volume is copied to an XFS image, FOLDER/images/SNAPSHOT, with the
server's process stopped; when a volume made from one is attached, a copy of the image becomes a loop device, which is known under
/dev/disk/by-id as the volume of an EC2 instance is. What is recovered is then what was snapshotted. Needs root.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "terraform"))

import boto3
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.responses import EC2Response
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

import moto_like_ec2  # noqa: F401 (changes moto)
import old_provider
from workbench import Bench

REGION = "eu-central-1"
HOST = "backstop.test"
LOGIN = {"region_name": REGION, "aws_access_key_id": "test", "aws_secret_access_key": "test"}


def server_on(datadir):
    """The server whose working directory this is, which MySQL makes its data directory."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == datadir:
                return int(entry.name)
        except OSError:
            pass
    raise AssertionError(f"no server runs on {datadir}")


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def copies(images, member):
    """Copies the volumes in the moment of their snapshots."""
    take, take_all = EC2Backend.create_snapshot, EC2Backend.create_snapshots

    def take_and_copy(self, volume_id, *arguments, **named):
        made = take(self, volume_id, *arguments, **named)
        image, mount = images / made.id, images / "mount"
        run("truncate", "-s", "1G", image)
        run("mkfs.xfs", "-q", image)
        mount.mkdir(exist_ok=True)
        run("mount", "-o", "loop,nouuid", image, mount)
        try:
            if self.volumes[volume_id].attachment.device == "/dev/sdg":
                shutil.copytree(member / "redo", mount, dirs_exist_ok=True)
            else:
                shutil.copytree(member / "data", mount / "data", ignore=shutil.ignore_patterns("*.sock", "*.sock.lock"))
        finally:
            run("umount", mount)
        return made

    def take_all_at_once(self, *arguments, **named):
        pid = server_on(member / "data")
        os.kill(pid, signal.SIGSTOP)
        try:
            return take_all(self, *arguments, **named)
        finally:
            os.kill(pid, signal.SIGCONT)

    EC2Backend.create_snapshot = take_and_copy
    EC2Backend.create_snapshots = take_all_at_once


def link(volume):
    """Returns udev's name of the device of a volume on an instance."""
    return Path("/dev/disk/by-id") / f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"


def attaches(images, volumes):
    """Makes a device of a volume that is attached."""
    attach = EC2Backend.attach_volume

    def attach_device(self, volume_id, *arguments, **named):
        attached = attach(self, volume_id, *arguments, **named)
        image, own = images / str(self.volumes[volume_id].snapshot_id), volumes / volume_id
        if image.exists() and not own.exists():
            run("cp", "--sparse=always", image, own)
            link(volume_id).parent.mkdir(parents=True, exist_ok=True)
            link(volume_id).symlink_to(run("losetup", "--show", "-f", own))
        return attached

    EC2Backend.attach_volume = attach_device


def detach_all(volumes):
    """Ends what runs on the devices, and gives them back."""
    devices = {own: os.path.realpath(link(own.name)) for own in volumes.iterdir()}
    mounts = [mount for device in devices.values() for mount in mounts_of(device)]
    for mount in mounts:
        for datadir in (Path(mount), Path(mount) / "data"):
            with contextlib.suppress(AssertionError):
                os.kill(server_on(datadir), signal.SIGKILL)
    for mount in mounts:
        deadline = time.monotonic() + 60
        # A killed process holds its files for a moment longer.
        while subprocess.run(["umount", mount], capture_output=True, timeout=60).returncode != 0 and time.monotonic() < deadline:
            time.sleep(0.1)
    for own, device in devices.items():
        link(own.name).unlink(missing_ok=True)
        subprocess.run(["losetup", "-d", device], capture_output=True, timeout=60)


def mounts_of(device):
    return subprocess.run(["findmnt", "-n", "-o", "TARGET", device], capture_output=True, text=True, timeout=30).stdout.split()


def knows_how_far_volumes_are():
    """Adds the initialization state of volumes, which moto lacks: complete."""
    def status(self):
        loaded = {"InitializationType": "provisioned-rate", "Progress": 100}
        ids = self._get_param("VolumeIds", [])
        return ActionResult({"VolumeStatuses": [{"VolumeId": one, "InitializationStatusDetails": loaded} for one in ids]})

    EC2Response.describe_volume_status = status


def host(ec2, image, subnet, server, devices):
    """An instance that a MySQL server is said to run on, with volumes by device and the mount points they are tagged with."""
    disks = [{"DeviceName": device, "Ebs": {"VolumeSize": 8}} for device in ("/dev/sda1", *devices)]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "MySQL-Host", "Value": server}]}]
    made = ec2.run_instances(ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1, SubnetId=subnet,
                             BlockDeviceMappings=disks, TagSpecifications=tags)["Instances"][0]
    for disk in ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]:
        if devices.get(disk["DeviceName"]):
            ec2.create_tags(Resources=[disk["Ebs"]["VolumeId"]], Tags=[{"Key": "MySQL-Mount", "Value": devices[disk["DeviceName"]]}])


def volumes_of(member, mount):
    """The volumes of the source's server, by device, with the value of their tag."""
    redo = member / "redo"
    return {"/dev/sdf": f"{mount},{member}", "/dev/sdg": str(member.with_name("redo"))} if redo.exists() else {"/dev/sdf": ""}


def site(url, primary, source, devices):
    """Creates the resources that Backstop and Terraform find in the account."""
    ec2 = boto3.client("ec2", endpoint_url=url, **LOGIN)
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = {}
    for zone, block in (("a", "10.1.1.0/24"), ("b", "10.1.2.0/24")):
        made = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=REGION + zone)
        subnets[REGION + zone] = made["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="mysql", Description="MySQL", VpcId=vpc)["GroupId"]
    image = ec2.describe_images()["Images"][0]["ImageId"]
    host(ec2, image, subnets[REGION + "a"], primary, {})
    host(ec2, image, subnets[REGION + "a"], source, devices)
    boto3.client("s3", endpoint_url=url, **LOGIN).create_bucket(
        Bucket="states", CreateBucketConfiguration={"LocationConstraint": REGION})
    return {"subnets": subnets, "group": group, "image": image}


def terraform(folder, url):
    """A root module that calls the module as it is delivered, but for what that provider does not know yet."""
    bench = Bench(folder / "terraform")
    old_provider.fit_recovered_instance(bench)
    bench.change("modules/recovered-instance/versions.tf", '"hashicorp/aws"', f'"{HOST}/hashicorp/aws"')
    bench.change("modules/recovered-instance/versions.tf", ">= 6.10, < 7.0", old_provider.VERSION)
    # Without a source of its own a module would ask the registry.
    provider = f'terraform {{\n  required_providers {{\n    aws = {{ source = "{HOST}/hashicorp/aws" }}\n  }}\n}}\n'
    for module in (bench.folder / "modules" / "shared").iterdir():
        if (module / "main.tf").exists():
            (module / "versions.tf").write_text(provider)
    mirror = folder / "mirror" / HOST / "hashicorp" / "aws" / old_provider.VERSION
    mirror.mkdir(parents=True)
    (mirror / "linux_amd64").symlink_to(old_provider.install(), target_is_directory=True)
    (folder / "terraform.rc").write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{folder}/mirror"\n  }}\n}}\n')
    root = bench.folder / "root"
    root.mkdir()
    template = (Path(__file__).parent / "root.tf").read_text()
    (root / "main.tf").write_text(template.replace("URL", url).replace("REGION", REGION))
    return root


def left(url):
    """Returns the existing resources of recoveries, by kind."""
    ec2 = boto3.client("ec2", endpoint_url=url, **LOGIN)
    ours = [{"Name": "tag-key", "Values": ["Backstop-Recovery"]}]
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    instances = [one for group in ec2.describe_instances(Filters=ours + alive)["Reservations"] for one in group["Instances"]]
    protected = [ec2.describe_instance_attribute(InstanceId=one["InstanceId"], Attribute="disableApiTermination")["DisableApiTermination"]["Value"]
                 for one in instances]
    volumes = [one for one in ec2.describe_volumes()["Volumes"]
               if any(tag["Key"] == "Backstop-Snapshot" for tag in one.get("Tags", []))]
    interfaces = [one for one in ec2.describe_network_interfaces()["NetworkInterfaces"]
                  if any(tag["Key"] == "Backstop-Recovery" for tag in one.get("TagSet", []))]
    return {"instances": [one["InstanceId"] for one in instances], "protected": protected,
            "zones": [one["Placement"]["AvailabilityZone"] for one in instances],
            "volumes": [one["VolumeId"] for one in volumes], "interfaces": len(interfaces)}


def main():
    if sys.argv[1] == "left":
        print(json.dumps(left(sys.argv[2])))
        return
    folder, primary, source, member, mount = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3], Path(sys.argv[4]).resolve(), sys.argv[5]
    images, volumes = folder / "images", folder / "volumes"
    images.mkdir(parents=True)
    volumes.mkdir()
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
    knows_how_far_volumes_are()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    found = {"url": url, "root": str(terraform(folder, url)), "terraform": str(folder / "terraform.rc"), **site(url, primary, source, volumes_of(member, mount))}
    # Only now: moto's own images are made from snapshots, too.
    copies(images, member)
    attaches(images, volumes)
    print(json.dumps(found), flush=True)
    # The caller holds the standard input: this process ends with it.
    sys.stdin.read()
    detach_all(volumes)
    os._exit(0)


main()
