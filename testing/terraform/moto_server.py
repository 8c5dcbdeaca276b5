"""moto's server, which stands for AWS, for as long as the `with` lasts."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3

REGION = "eu-central-1"
LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}


class Moto:
    def __enter__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        program = Path(__file__).with_name("moto_like_ec2.py")
        self.process = subprocess.Popen([sys.executable, program, "-H", "127.0.0.1", "-p", str(self.port)],
                                        env=os.environ | LOGIN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def client(self, service):
        return boto3.client(service, endpoint_url=self.url, region_name=REGION,
                            aws_access_key_id="test", aws_secret_access_key="test")

    def wait(self):
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert self.process.poll() is None, "moto ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("moto does not listen")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
