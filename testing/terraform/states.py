"""What `terraform test` makes of a module or an example with mocks: each resource with all of its values."""

import json

MOCKS = 'mock_provider "aws" {\n  source = "../../modules/shared/mocks"\n}\n'


def applied(bench, folder, variables):
    """Returns the resources and outputs of an example after an apply with mocks: [{"type", "address", "values"}], {name: value}."""
    return run(bench, folder, MOCKS, variables)


def of_module(bench, module, variables):
    """The same of a module, with the variables of its own tests as defaults."""
    folder = f"modules/{module}"
    tests = (bench.folder / folder / "tests" / "plan.tftest.hcl").read_text()
    return run(bench, folder, tests.split("\nrun ", 1)[0], variables)


def run(bench, folder, head, variables):
    lines = "\n    ".join(f"{name} = {json.dumps(value)}" for name, value in variables.items())
    (bench.folder / folder / "state.tftest.hcl").write_text(f'{head}\nrun "state" {{\n  variables {{\n    {lines}\n  }}\n}}\n')
    bench.terraform(folder, "init", "-no-color", "-backend=false")
    said = bench.terraform(folder, "test", "-json", "-verbose", "-filter=state.tftest.hcl", check=False).stdout
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    states = [event["test_state"] for event in events if event["type"] == "test_state"]
    assert states, [(event["@message"], event["diagnostic"]["detail"]) for event in events if event["type"] == "diagnostic"]
    outputs = {name: one["value"] for name, one in states[0].get("outputs", {}).items()}
    return [one for one in resources(states[0]["root_module"]) if one["mode"] == "managed"], outputs


def resources(module):
    found = list(module.get("resources", []))
    for child in module.get("child_modules", []):
        found += resources(child)
    return found
