"""moto's server, which stands for AWS, for as long as the `with` lasts."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3

REGION = "eu-central-1"
LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}


class Moto:
    def __enter__(self):
        # Another process may take the port before moto does.
        while not self.started():
            pass
        return self

    def started(self):
        """Starts it; false if it ended since its port was taken, at most four times."""
        self.tries = getattr(self, "tries", 0) + 1
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        program = Path(__file__).with_name("moto_like_ec2.py")
        self.process = subprocess.Popen([sys.executable, program, "-H", "127.0.0.1", "-p", str(self.port)],
                                        env=os.environ | LOGIN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answers = self.answers()
        assert answers or self.tries < 5, "moto ends as soon as it is started"
        return answers

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def client(self, service):
        return boto3.client(service, endpoint_url=self.url, region_name=REGION,
                            aws_access_key_id="test", aws_secret_access_key="test")

    def answers(self):
        """Waits until moto answers; returns false if it has ended. Another program may have taken the port."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            try:
                with urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5) as said:
                    return said.status == 200
            except OSError:
                time.sleep(0.1)
        raise AssertionError("moto does not answer")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
