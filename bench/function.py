"""The Lambda function: its size, and how long a new one takes until it asks for an event and until it has answered it."""

import http.server
import json
import os
import statistics
import subprocess
import threading
import time
import zipfile

import lab

TITLE = "Lambda"
AIM = "no slower to start, and no larger, than a Python function with boto3"
TURNS = 10
# What a function in Python does before it can back anything up. It is given boto3 by Lambda, as this one is by its environment.
PEER = """
import json, os, urllib.request
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
config = Config(retries={"total_max_attempts": 1})
ec2, secrets = boto3.client("ec2", config=config), boto3.client("secretsmanager", config=config)
api = "http://{}/2018-06-01/runtime/invocation/".format(os.environ["AWS_LAMBDA_RUNTIME_API"])
with urllib.request.urlopen(api + "next") as answer:
    request, event = answer.headers["lambda-runtime-aws-request-id"], json.load(answer)
try:
    secrets.get_secret_value(SecretId=event["secret_id"])
except ClientError as error:
    told = json.dumps({"errorMessage": str(error)}).encode()
    urllib.request.urlopen(urllib.request.Request(api + request + "/error", told, method="POST"))
"""


class Double(http.server.BaseHTTPRequestHandler):
    """Lambda's Runtime API, and a Secrets Manager that has no secret."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.server.asked is None:
            self.server.asked = time.monotonic()
            self.answer(200, {"secret_id": "bench"}, {"lambda-runtime-aws-request-id": "r1", "lambda-runtime-invoked-function-arn": "arn:aws:lambda:x",
                                                      "lambda-runtime-deadline-ms": str(int((time.time() + 300) * 1000))})
        else:
            self.server.over.wait(60)
            self.close_connection = True

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.startswith("/2018-06-01/"):
            self.server.answered = time.monotonic()
            self.answer(202, {"status": "OK"}, {})
            self.server.over.set()
        else:
            self.answer(400, {"__type": "ResourceNotFoundException", "message": "there is none"}, {"content-type": "application/x-amz-json-1.1"})

    def answer(self, status, body, headers):
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """The process that was measured is killed, with its connections."""


def cold(words):
    """Seconds until it asked for an event, seconds until it answered, and its peak memory."""
    with Server(("127.0.0.1", 0), Double) as double:
        double.asked, double.answered, double.over = None, None, threading.Event()
        threading.Thread(target=double.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{double.server_port}"
        environment = {"PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": url, "AWS_LAMBDA_FUNCTION_NAME": "bench",
                       "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512", "AWS_REGION": "eu-central-1",
                       "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": f"http://{url}",
                       "AWS_EC2_METADATA_DISABLED": "true", "BACKSTOP_REPOSITORY": "s3://bench/x"}
        begun = time.monotonic()
        with subprocess.Popen([str(word) for word in words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
            if not double.over.wait(60):
                child.kill()
                raise RuntimeError(f"{words[0]} did not answer: {child.stderr.read().decode()[-2000:]}")
            peak = lab.high_water(child.pid)
            child.kill()
        double.shutdown()
        return double.asked - begun, double.answered - begun, peak


def measure(tools, size):
    del tools, size
    lab.run(lab.ROOT / "testing/lambda-zip")
    program, packed = lab.ROOT / "target/release/bootstrap", lab.ROOT / "target/lambda/backstop-lambda.zip"
    with zipfile.ZipFile(packed) as zipped:
        unpacked = sum(entry.file_size for entry in zipped.infolist())
    candidates = {"bootstrap": [program], "Python with boto3": [lab.ROOT / ".cache/venv/bin/python", "-c", PEER]}
    measured = {name: [] for name in candidates}
    for _ in range(TURNS):
        for name, words in candidates.items():
            measured[name].append(cold(words))
    rows, base = [], None
    for name, turns in measured.items():
        asked, answered, peak = (statistics.median(column) for column in zip(*turns))
        base = base or (asked, answered)
        rows.append([name, f"{asked * 1e3:.0f} ms", lab.ratio(asked, base[0]), f"{answered * 1e3:.0f} ms", lab.ratio(answered, base[1]), lab.mib(peak)])
    return (f"`bootstrap` is {lab.mib(unpacked)}, and {lab.mib(packed.stat().st_size)} as the zip that is uploaded.\n\n"
            f"From the start of a process until it asks for an event, and until it has answered one whose secret is not there; the median of {TURNS}, "
            "files in the page cache, behind a double of the Runtime API. Lambda's own part of a cold start is not in it.\n\n"
            + lab.table(["", "until it asks", "ratio", "until it answered", "ratio", "peak memory"], rows))
