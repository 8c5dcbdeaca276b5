# A complete shard, with function, schedule, roles, endpoints, bucket, alarms and archiver, and a second shard.

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

module "orders" {
  source = "../../modules/shard-backup"

  shard        = "orders"
  cluster_name = "orders"
  secret_arn   = "arn:aws:secretsmanager:${var.region}:${var.account_id}:secret:prod/orders-AbCdEf"
  schedule     = "cron(55 23 * * ? *)"
  package      = { path = var.package }

  vpc_id               = "vpc-0123456789abcdef0"
  subnet_ids           = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  database_cidr_blocks = ["10.1.0.0/16"]

  endpoints = {
    mode            = "create"
    services        = ["ec2", "secretsmanager", "monitoring"]
    route_table_ids = ["rtb-0123456789abcdef0"]
  }

  bucket = {
    name   = "acme-backstop"
    create = true
    prefix = "orders"
  }

  volume_tag       = { key = "Role", value = "mysql" }
  alarm            = { actions = ["arn:aws:sns:${var.region}:${var.account_id}:database-on-call"] }
  prune_principals = ["arn:aws:iam::${var.account_id}:role/backstop-housekeeping"]
  tags             = { Team = "databases" }
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
  vpc_id               = "vpc-0123456789abcdef0"
  subnet_id            = "subnet-0123456789abcdef1"
  database_cidr_blocks = ["10.1.0.0/16"]

  endpoints = { mode = "use", client_security_group_id = module.orders.endpoint_clients_security_group_id }
  bucket    = { name = "acme-backstop", prefix = "orders" }
  alarm     = { actions = ["arn:aws:sns:${var.region}:${var.account_id}:database-on-call"] }
  tags      = { Team = "databases" }
}

# The second shard uses the endpoints and the bucket of the first, under a separate prefix.
module "customers" {
  source = "../../modules/shard-backup"

  shard      = "customers"
  secret_arn = "arn:aws:secretsmanager:${var.region}:${var.account_id}:secret:prod/customers-GhIjKl"
  schedule   = "rate(6 hours)"
  package    = { path = var.package }

  vpc_id               = "vpc-0123456789abcdef0"
  subnet_ids           = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  database_cidr_blocks = ["10.1.0.0/16"]

  endpoints = { mode = "use", client_security_group_id = module.orders.endpoint_clients_security_group_id }
  bucket    = { name = "acme-backstop", prefix = "customers" }
  alarm     = { missing_after_hours = 8 }
}

output "repository" {
  value = module.orders.repository
}

output "function" {
  value = module.orders.function_name
}
