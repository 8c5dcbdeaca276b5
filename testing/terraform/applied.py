"""A module that a real provider applies at moto."""

import json

from moto_server import REGION

SERVICES = ("cloudwatch", "cloudwatchlogs", "ec2", "iam", "lambda", "s3", "sqs", "sts")
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

module "it" {{
  source = "../modules/{module}"
  {arguments}
}}

output "it" {{
  value = module.it
}}
"""


class Applied:
    """Module that a separate root configuration calls."""

    def __init__(self, bench, moto, module, arguments):
        self.bench, self.moto, self.module = bench, moto, module
        self.write(arguments)
        bench.terraform("root", "get")

    def write(self, arguments):
        folder = self.bench.folder / "root"
        folder.mkdir(exist_ok=True)
        endpoints = "\n    ".join(f'{service} = "{self.moto.url}"' for service in SERVICES)
        lines = "\n  ".join(f"{name} = {json.dumps(value)}" for name, value in arguments.items())
        text = ROOT.format(region=REGION, endpoints=endpoints, module=self.module, arguments=lines)
        (folder / "main.tf").write_text(text)

    def run(self, *arguments, check=True):
        return self.bench.terraform("root", *arguments, "-no-color", check=check)

    def outputs(self):
        said = self.bench.terraform("root", "output", "-json", "it").stdout
        return json.loads(said[said.index("{"):])
