# What all shards share (bucket, endpoints, completion of backups), a complete shard with its archiver, and a second shard.

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
  description = "Path of the function's deployment package."
  type        = string
  default     = "backstop-lambda.zip"
}

variable "program_sha256" {
  description = "SHA-256 checksum of the archiver's program in the bucket of artifacts."
  type        = string
  default     = "0000000000000000000000000000000000000000000000000000000000000000"
}

variable "vpc_id" {
  type    = string
  default = "vpc-0123456789abcdef0"
}

variable "subnet_ids" {
  type    = list(string)
  default = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
}

locals {
  on_call    = ["arn:aws:sns:${var.region}:${var.account_id}:database-on-call"]
  extra_tags = { Team = "databases" }
}

# Shared by all shards: the bucket, the VPC's endpoints, and the completion of backups.
module "store" {
  source = "../../modules/store"

  name       = "acme-backstop"
  extra_tags = local.extra_tags
}

module "endpoints" {
  source = "../../modules/endpoints"

  name            = "backstop"
  vpc_id          = var.vpc_id
  subnet_ids      = var.subnet_ids
  services        = ["ec2", "secretsmanager", "monitoring"]
  route_table_ids = ["rtb-0123456789abcdef0"]
  extra_tags      = local.extra_tags
}

module "completion" {
  source = "../../modules/completion"

  secret_arns   = ["arn:aws:secretsmanager:${var.region}:${var.account_id}:secret:prod/*"]
  repositories  = [{ name = module.store.bucket }]
  package       = { path = var.package }
  alarm_actions = local.on_call
  extra_tags    = local.extra_tags
}

module "orders" {
  source = "../../modules/shard-backup"

  shard        = "orders"
  cluster_name = "orders"
  secret_arn   = "arn:aws:secretsmanager:${var.region}:${var.account_id}:secret:prod/orders-AbCdEf"
  schedule     = "cron(55 23 * * ? *)"
  package      = { path = var.package }

  vpc_id               = var.vpc_id
  subnet_ids           = var.subnet_ids
  database_cidr_blocks = ["10.1.0.0/16"]

  endpoints = { mode = "use", client_security_group_id = module.endpoints.client_security_group_id }
  bucket    = { name = module.store.bucket, prefix = "orders" }

  volume_tag       = { key = "Role", value = "mysql" }
  alarm            = { actions = local.on_call }
  prune_principals = ["arn:aws:iam::${var.account_id}:role/backstop-housekeeping"]
  extra_tags       = local.extra_tags
}

# Archive of the first shard: every transaction, at most about a second behind.
module "orders_archive" {
  source = "../../modules/shard-archiver"

  shard             = "orders"
  secret_arn        = "arn:aws:secretsmanager:${var.region}:${var.account_id}:secret:prod/orders-AbCdEf"
  orchestrator_urls = ["http://orc1.internal:3000", "http://orc2.internal:3000"]
  package = {
    s3_bucket = "acme-artifacts"
    s3_key    = "backstop"
    sha256    = var.program_sha256
  }

  ami_id               = "ami-0123456789abcdef0"
  vpc_id               = var.vpc_id
  subnet_id            = "subnet-0123456789abcdef1"
  database_cidr_blocks = ["10.1.0.0/16"]

  endpoints = { mode = "use", client_security_group_id = module.endpoints.client_security_group_id }
  bucket    = { name = module.store.bucket, prefix = "orders" }
  alarm     = { actions = local.on_call }

  extra_tags = local.extra_tags
}

# The second shard uses the same endpoints and bucket, under a separate prefix.
module "customers" {
  source = "../../modules/shard-backup"

  shard      = "customers"
  secret_arn = "arn:aws:secretsmanager:${var.region}:${var.account_id}:secret:prod/customers-GhIjKl"
  schedule   = "rate(6 hours)"
  package    = { path = var.package }

  vpc_id               = var.vpc_id
  subnet_ids           = var.subnet_ids
  database_cidr_blocks = ["10.1.0.0/16"]

  endpoints = { mode = "use", client_security_group_id = module.endpoints.client_security_group_id }
  bucket    = { name = module.store.bucket, prefix = "customers" }
  alarm     = { missing_after_hours = 10, actions = local.on_call }

  extra_tags = local.extra_tags
}

output "repository" {
  value = module.orders.repository
}

output "function" {
  value = module.orders.function_name
}
