import pytest

import old_provider
from moto_server import LOGIN, REGION, Moto
from workbench import MODULES, Bench, Provider


@pytest.fixture
def bare_bench(tmp_path):
    """The modules, with no provider at hand."""
    return Bench(tmp_path / "terraform")


@pytest.fixture
def bench(tmp_path, provider):
    """The modules and the provider that knows the current schema."""
    return Bench(tmp_path / "terraform", provider)


@pytest.fixture(scope="module")
def shared_bench(tmp_path_factory, provider):
    """The same for all tests of a file, which add files and change none."""
    return Bench(tmp_path_factory.mktemp("shared") / "terraform", provider)


@pytest.fixture(scope="session")
def provider():
    with Provider(MODULES) as reached:
        yield reached


@pytest.fixture(scope="module")
def moto():
    with Moto() as server:
        yield server


@pytest.fixture
def old_bench(tmp_path):
    return Bench(tmp_path / "terraform", LOGIN | old_provider.settings(tmp_path / "terraform.rc"))


@pytest.fixture
def site(moto):
    """A VPC with subnets in two zones, an image, and a proven snapshot of a MySQL volume."""
    ec2 = moto.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = lambda zone, block: ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=REGION + zone)["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName=f"mysql-{vpc}", Description="MySQL", VpcId=vpc)["GroupId"]
    routes = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    return {
        "vpc": vpc,
        "subnets": {zone: subnet(zone, block) for zone, block in (("a", "10.1.1.0/24"), ("b", "10.1.2.0/24"))},
        "group": group,
        "routes": routes,
        "image": ec2.describe_images()["Images"][0]["ImageId"],
    }
