"""Puts the function behind a schedule of MiniStack: schedule.py MINISTACK_URL BOOTSTRAP SCHEDULED_TIME < JSON.

The JSON has the function's `variables` and the `secret`. Prints when MiniStack knows all of it.
"""

import datetime
import io
import json
import sys
import zipfile

import boto3
from botocore.config import Config

REGION = "eu-test-1"


def main(url, bootstrap, time):
    given = json.load(sys.stdin)

    def client(service):
        config = Config(read_timeout=120, retries={"total_max_attempts": 1})
        return boto3.client(service, endpoint_url=url, region_name=REGION, config=config)

    client("secretsmanager").create_secret(Name="prod/orders", SecretString=json.dumps(given["secret"]))
    function = client("lambda").create_function(
        FunctionName="backstop-orders",
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role="arn:aws:iam::000000000000:role/backstop",
        Code={"ZipFile": packed(bootstrap)},
        Timeout=300,
        MemorySize=512,
        Environment={"Variables": given["variables"]},
    )
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    client("scheduler").create_schedule(
        Name="backstop-orders",
        ScheduleExpression=f"at({soon:%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": function["FunctionArn"],
            "RoleArn": "arn:aws:iam::000000000000:role/scheduler",
            # MiniStack does not fill in <aws.scheduler.scheduled-time>.
            "Input": json.dumps({"secret_id": "prod/orders", "scheduled_time": time}),
        },
    )


def packed(bootstrap):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        with open(bootstrap, "rb") as program:
            archive.writestr(entry, program.read())
    return whole.getvalue()


main(*sys.argv[1:])
