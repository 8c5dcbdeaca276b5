"""The tables of inputs and outputs in the modules' README files, made from the modules themselves.

    python testing/terraform/tables.py        rewrites them
"""

import re

from workbench import MODULES

BLOCK = re.compile(r'^(variable|output) "(\w+)" \{$(.*?)^\}$', re.M | re.S)
BEGIN, END = "<!-- made by testing/terraform/tables.py -->", "<!-- end -->"


def documented():
    """The folders with a README."""
    return sorted(file.parent for file in (MODULES / "modules").rglob("README.md"))


def declared(folder, kind):
    """Returns the declarations of a module: [(name, body)]."""
    file = folder / ("variables.tf" if kind == "variable" else "outputs.tf")
    return [(name, body) for found, name, body in BLOCK.findall(file.read_text()) if found == kind]


def description(body):
    found = re.search(r'^  description = "(.*)"$', body, re.M)
    assert found, f"no description in: {body}"
    return found[1].replace('\\"', '"').replace("|", "\\|")


def default(body):
    """The default in short; `required` without one."""
    found = re.search(r"^  default +(?:= )?= (.*?)(?=^  \w|^$|\Z)|^  default += (.*?)(?=^  \w|^\s*$|\Z)", body, re.M | re.S)
    if not found:
        return "required"
    return "`" + " ".join((found[1] or found[2]).split()) + "`"


def kind(body):
    found = re.search(r"^  type += (\w+(?:\(\w+\))?)", body, re.M)
    return found[1]


def tables(folder):
    inputs = [f"| `{name}` | {kind(body)} | {default(body)} | {description(body)} |" for name, body in declared(folder, "variable")]
    outputs = [f"| `{name}` | {description(body)} |" for name, body in declared(folder, "output")]
    return "\n".join([
        BEGIN, "", "## Inputs", "", "| name | type | default | meaning |", "|---|---|---|---|", *inputs,
        "", "## Outputs", "", "| name | meaning |", "|---|---|", *outputs, "", END,
    ])


def renewed(folder):
    """The README with the tables as they must be."""
    text = (folder / "README.md").read_text()
    before, rest = text.split(BEGIN, 1)
    return before + tables(folder) + rest.split(END, 1)[1]


if __name__ == "__main__":
    for folder in documented():
        (folder / "README.md").write_text(renewed(folder))
