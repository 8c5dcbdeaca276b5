"""A module that a real provider applies at moto."""

import json

from moto_server import REGION

SERVICES = ("cloudwatch", "cloudwatchevents", "cloudwatchlogs", "ec2", "iam", "lambda", "s3", "sqs", "sts")
ROOT = """
provider "aws" {{
  region                      = "{region}"
  skip_credentials_validation = true
  skip_requesting_account_id  = false
  skip_metadata_api_check     = true
  s3_force_path_style         = true

  endpoints {{
    {endpoints}
  }}
}}

{modules}
output "it" {{
  value = module.it
}}
"""
MODULE = """
module "{name}" {{
  source = "../modules/{module}"
  {arguments}
}}
"""


class Applied:
    """Module that a separate root configuration calls, with others before it: {name: (module, arguments)}."""

    def __init__(self, bench, moto, module, arguments, others=None):
        self.bench, self.moto, self.module = bench, moto, module
        self.write(arguments, others)
        bench.terraform("root", "get")

    def write(self, arguments, others=None, rest=""):
        folder = self.bench.folder / "root"
        folder.mkdir(exist_ok=True)
        endpoints = "\n    ".join(f'{service} = "{self.moto.url}"' for service in SERVICES)
        calls = {"it": (self.module, arguments)} | (others or {})
        modules = "".join(MODULE.format(name=name, module=module, arguments=lines(given)) for name, (module, given) in calls.items())
        (folder / "main.tf").write_text(ROOT.format(region=REGION, endpoints=endpoints, modules=modules) + rest)

    def run(self, *arguments, check=True):
        return self.bench.terraform("root", *arguments, "-no-color", check=check)

    def outputs(self):
        said = self.bench.terraform("root", "output", "-json", "it").stdout
        return json.loads(said[said.index("{"):])


def lines(arguments):
    return "\n  ".join(f"{name} = {json.dumps(value)}" for name, value in arguments.items())
