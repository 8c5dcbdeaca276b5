# Copy of deploy/terraform/examples/recovery for a provider of 2021 and a stand-in for AWS, with the server on this host.

terraform {
  required_providers {
    aws = {
      source = "backstop.test/hashicorp/aws"
    }
  }

  backend "s3" {}
}

provider "aws" {
  region                      = "REGION"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true

  endpoints {
    ec2 = "URL"
    iam = "URL"
    sts = "URL"
  }
}

variable "shard" { type = string }
variable "recovery_id" { type = string }
variable "primary_availability_zone" { type = string }
variable "availability_zone" { type = string }
variable "subnet_id" { type = string }
variable "volumes" {
  type = map(object({
    snapshot_id    = string
    size_gib       = optional(number)
    type           = optional(string)
    iops           = optional(number)
    throughput_mib = optional(number)
    kms_key_id     = optional(string)
    mount_points   = optional(list(string), [])
  }))
}
variable "protected" { type = bool }
variable "image" { type = string }
variable "groups" { type = list(string) }
variable "port" { type = number }
variable "host" { type = any }

module "instance" {
  source = "../modules/recovered-instance"

  shard                     = var.shard
  recovery_id               = var.recovery_id
  primary_availability_zone = var.primary_availability_zone
  availability_zone         = var.availability_zone
  subnet_id                 = var.subnet_id
  security_group_ids        = var.groups
  ami_id                    = var.image
  instance_type             = "m5.large"
  volumes                   = [for device, volume in var.volumes : merge(volume, { device_name = device })]
  mysql_port                = var.port
  protected                 = var.protected
}

locals {
  hosts = yamldecode(module.instance.ansible_inventory).mysql.hosts
}

# The server runs on this host.
output "mysql_host" {
  value = "127.0.0.1:${var.port}"
}

output "instance_id" {
  value = module.instance.instance_id
}

output "volume_ids" {
  value = module.instance.volume_ids
}

output "ansible_inventory" {
  value = yamlencode({ mysql = { hosts = { for name, host in local.hosts : name => merge(host, var.host) } } })
}
