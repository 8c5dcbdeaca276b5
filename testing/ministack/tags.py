"""Prints the snapshots that an independent client finds: tags.py EC2_URL REGION."""

import json
import sys

import boto3

client = boto3.client("ec2", endpoint_url=sys.argv[1], region_name=sys.argv[2])
pages = client.get_paginator("describe_snapshots").paginate(
    OwnerIds=["self"], Filters=[{"Name": "tag:Cluster-name", "Values": ["shop-1"]}]
)
found = [snapshot for page in pages for snapshot in page["Snapshots"]]
print(json.dumps([
    {"id": one["SnapshotId"], "state": one["State"], "tags": {tag["Key"]: tag["Value"] for tag in one["Tags"]}}
    for one in found
]))
