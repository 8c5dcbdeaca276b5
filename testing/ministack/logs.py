"""Prints what the functions of MiniStack logged: logs.py MINISTACK_URL."""

import sys

import boto3

client = boto3.client("logs", endpoint_url=sys.argv[1], region_name="eu-test-1")
for group in client.describe_log_groups()["logGroups"]:
    for event in client.filter_log_events(logGroupName=group["logGroupName"])["events"]:
        print(event["message"].rstrip())
