# A fleet: one function for all shards of a file, with the bucket, the endpoints and the completion of backups.

terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.10, < 7.0"
    }
  }

  # terraform init -backend-config=backend.hcl
  backend "s3" {}
}

provider "aws" {
  region = var.region
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "account_id" {
  type    = string
  default = "123456789012"
}

variable "package" {
  description = "Path of the functions' deployment package."
  type        = string
  default     = "backstop-lambda.zip"
}

variable "release" {
  description = "Version of the function that schedules invoke."
  type        = object({ stable_version = optional(string), canary_weight = optional(number, 0) })
  default     = {}
}

# Shards by name, with the ARN of the secret and the schedule of each.
variable "shards" {
  type = map(object({ secret_arn = string, schedule = string }))
  default = {
    shard-0001 = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/shard-0001-AbCdEf", schedule = "cron(55 23 * * ? *)" }
    shard-0002 = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/shard-0002-AbCdEf", schedule = "cron(55 23 * * ? *)" }
  }
}

locals {
  subnet_ids  = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  secret_arns = ["arn:aws:secretsmanager:${var.region}:${var.account_id}:secret:prod/*"]
  on_call     = ["arn:aws:sns:${var.region}:${var.account_id}:database-on-call"]
  extra_tags  = { Team = "databases" }
}

module "store" {
  source = "../../modules/store"

  name       = "acme-backstop"
  extra_tags = local.extra_tags
}

module "endpoints" {
  source = "../../modules/endpoints"

  name            = "backstop"
  vpc_id          = "vpc-0123456789abcdef0"
  subnet_ids      = local.subnet_ids
  route_table_ids = ["rtb-0123456789abcdef0"]
  extra_tags      = local.extra_tags
}

module "completion" {
  source = "../../modules/completion"

  secret_arns   = local.secret_arns
  repositories  = [{ name = module.store.bucket }]
  package       = { path = var.package }
  alarm_actions = local.on_call
  extra_tags    = local.extra_tags

  # The names of the shards end with a digit: a filter for each counts a tenth of them.
  shard_patterns = [for digit in range(10) : "*${digit}"]
}

module "fleet" {
  source = "../../modules/fleet-backup"

  shards       = var.shards
  secret_arns  = local.secret_arns
  repositories = [{ name = module.store.bucket }]
  package      = { path = var.package }
  release      = var.release

  vpc_id               = "vpc-0123456789abcdef0"
  subnet_ids           = local.subnet_ids
  database_cidr_blocks = ["10.1.0.0/16"]
  endpoints            = { mode = "use", client_security_group_id = module.endpoints.client_security_group_id }

  volume_tag = { key = "Role", value = "mysql" }
  alarm      = { actions = local.on_call }
  extra_tags = local.extra_tags
}

output "function_version" {
  value = module.fleet.function_version
}
