"""Where Terraform runs in tests: a copy of the modules outside the repository, and the provider they are tried with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import schema

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "deploy" / "terraform"
CACHE = ROOT / ".cache" / "terraform"
QUIET = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_CLI_CONFIG_FILE": os.devnull, "TF_INPUT": "0"}


def package(name):
    """The downloaded package of this name."""
    found = sorted(CACHE.glob(f"{name.replace('-', '_')}-*.whl"))
    assert found, f"{name} is not in {CACHE}: run testing/install terraform"
    return found[-1]


class Bench:
    """A copy of `deploy/terraform`, to be changed at will."""

    def __init__(self, folder, environment=None):
        self.folder = Path(folder)
        self.environment = os.environ | QUIET | (environment or {})
        shutil.copytree(MODULES, self.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))

    def terraform(self, below, *arguments, check=True):
        """Runs `terraform` in a folder of the copy; its answer, or a failure with everything that it said."""
        done = subprocess.run(["terraform", *arguments], cwd=self.folder / below, env=self.environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        if check:
            assert done.returncode == 0, f"terraform {' '.join(arguments)} in {below}:\n{done.stdout}"
        return done

    def change(self, path, old, new):
        """Puts one text in place of another, which must be there."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} does not hold: {old}"
        file.write_text(text.replace(old, new))


class Provider:
    """The provider that only knows its schema, for as long as the `with` lasts."""

    def __init__(self, folder):
        self.files = sorted(str(file) for file in Path(folder).rglob("*.tf"))

    def __enter__(self):
        program = Path(__file__).with_name("provider.py")
        self.process = subprocess.Popen(
            [sys.executable, program, package(schema.PACKAGE), CACHE / f"schemas-{schema.PROVIDER_VERSION}.json", *self.files],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        assert said, "the provider did not start"
        return {"TF_REATTACH_PROVIDERS": json.dumps(json.loads(said))}

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=60)
