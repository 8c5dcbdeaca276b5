# A recovery: an instance in another Availability Zone, with a MySQL volume created from a snapshot.

terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.10, < 7.0"
    }
  }

  # One key for each recovery: terraform init -backend-config=backend.hcl -backend-config="key=backstop/recoveries/$RECOVERY.tfstate"
  backend "s3" {}
}

provider "aws" {
  region = var.region
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "shard" {
  type    = string
  default = "orders"
}

variable "recovery_id" {
  type = string
}

variable "primary_availability_zone" {
  type = string
}

variable "availability_zone" {
  type = string
}

variable "subnet_id" {
  description = "ID of a subnet in `availability_zone`."
  type        = string
}

variable "volumes" {
  description = "Volumes by device name, with the facts of the source's volumes. `backstop recover` gives them from the manifest."
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

variable "fast_restore_zones" {
  description = "Availability Zones in which EC2 restores the snapshots fast, at a price by the hour."
  type        = set(string)
  default     = []
}

variable "connection" {
  description = "Connection of Ansible to the instance: `ssh`, or `ssm` for SSH through Session Manager."
  type        = string
  default     = "ssh"
}

variable "instance_profile" {
  description = "Name of the instance profile, which `ssm` needs."
  type        = string
  default     = null
}

variable "protected" {
  description = "Protect the instance against termination. Backstop sets false until the server runs, so that a failed recovery can be destroyed."
  type        = bool
  default     = true
}

variable "check_snapshots" {
  description = "Set to false when the snapshots have been pruned."
  type        = bool
  default     = true
}

module "instance" {
  source = "../../modules/recovered-instance"

  shard       = var.shard
  recovery_id = var.recovery_id

  primary_availability_zone = var.primary_availability_zone
  availability_zone         = var.availability_zone
  subnet_id                 = var.subnet_id
  security_group_ids        = ["sg-0123456789abcdef0"]
  ami_id                    = "ami-0123456789abcdef0"
  instance_type             = "r7i.xlarge"
  key_name                  = "databases"
  connection                = var.connection
  instance_profile          = var.instance_profile

  volumes                  = [for device, volume in var.volumes : merge(volume, { device_name = device })]
  initialization_rate_mibs = length(var.fast_restore_zones) > 0 ? null : 200
  fast_restore_zones       = var.fast_restore_zones
  protected                = var.protected
  check_snapshots          = var.check_snapshots
}

# Outputs for `backstop recover` and the playbook.
output "mysql_host" {
  value = module.instance.mysql_host
}

output "instance_id" {
  value = module.instance.instance_id
}

output "volume_ids" {
  value = module.instance.volume_ids
}

output "ansible_inventory" {
  value = module.instance.ansible_inventory
}
