"""The Terraform module takes and refuses the schedules that Backstop's commands take and refuse."""

import json
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("schedules.txt")
ROOT = """
module "one" {
  for_each = toset(jsondecode(file("${path.module}/texts.json")))
  source   = "../modules/shared/schedule"
  text     = each.value
}

output "hours" {
  value = { for text, one in module.one : text => one.interval_hours }
}
"""


def table():
    lines = (line.split(" => ") for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return {text: said for text, said in lines}


def read(bench, texts):
    """Returns Terraform's refusals and intervals of schedules."""
    folder = bench.folder / "schedules"
    folder.mkdir(exist_ok=True)
    (folder / "main.tf").write_text(ROOT)
    (folder / "texts.json").write_text(json.dumps(texts))
    bench.terraform("schedules", "get")
    said = bench.terraform("schedules", "apply", "-auto-approve", "-json", check=False).stdout.splitlines()
    events = [json.loads(line) for line in said]
    errors = [event["diagnostic"] for event in events if "diagnostic" in event]
    outputs = {name: value for event in events for name, value in event.get("outputs", {}).items()}
    return [error["detail"] for error in errors], outputs


def test_schedules_that_backstop_takes_are_taken(bare_bench):
    errors, outputs = read(bare_bench, [text for text, said in table().items() if said == "ok"])
    assert errors == []
    hours = outputs["hours"]["value"]
    assert hours["cron(55 23 * * ? *)"] == 24
    assert hours["rate(6 hours)"] == 6
    assert hours["cron(0,15,30-45/5 */6 * jan,MAR-may ? *)"] is None, "not every day"


def test_schedules_that_backstop_refuses_are_refused_for_the_same_reason(bare_bench):
    refused = {text: said for text, said in table().items() if said != "ok"}
    errors, _ = read(bare_bench, list(refused))
    for text, words in refused.items():
        of_this = [error for error in errors if f"`{text}` is not a schedule:" in error]
        assert of_this, f"{text} was taken"
        assert words.strip() in of_this[0].split("is not a schedule:", 1)[1], f"{text}: {of_this[0]}"
    assert len(errors) == len(refused)


@pytest.mark.parametrize("moment", ["2027-01-31T23:55:00"])
def test_a_single_backup_can_be_scheduled(bare_bench, moment):
    assert read(bare_bench, [f"at({moment})"])[0] == []


def test_a_moment_that_does_not_exist_is_refused(bare_bench):
    for moment in ("2027-02-30T23:55:00", "2027-01-31", "2027-01-31T24:00:00", "tomorrow"):
        errors, _ = read(bare_bench, [f"at({moment})"])
        assert len(errors) == 1 and "a moment that exists" in errors[0], moment
