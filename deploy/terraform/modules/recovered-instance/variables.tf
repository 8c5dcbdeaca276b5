variable "shard" {
  description = "Name of the shard in Backstop."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{0,62}$", var.shard))
    error_message = "shard: use 1 to 63 of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit."
  }
}

variable "cluster_name" {
  description = "Name of the cluster in orchestrator, as in the tag `Cluster-name` of the snapshots. If null, the name of the shard."
  type        = string
  default     = null
}

variable "recovery_id" {
  description = "ID of the recovery, set as the tag `Backstop-Recovery` of every resource. Each recovery needs a separate state."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", var.recovery_id))
    error_message = "recovery_id: use 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`, starting with a letter or digit."
  }
}

variable "primary_availability_zone" {
  description = "Availability Zone of the shard's current primary."
  type        = string
}

variable "availability_zone" {
  description = "Availability Zone of the instance. It must differ from the primary's, so that the loss of one zone does not take both servers."
  type        = string

  validation {
    condition     = var.allow_same_zone || var.availability_zone != var.primary_availability_zone
    error_message = "availability_zone: ${var.availability_zone} is the primary's own; use another zone, or set allow_same_zone if there is none."
  }
}

variable "allow_same_zone" {
  description = "Set to true to accept the primary's own Availability Zone."
  type        = bool
  default     = false
}

variable "subnet_id" {
  description = "ID of the instance's subnet, in `availability_zone`."
  type        = string
}

variable "security_group_ids" {
  description = "IDs of the instance's security groups: those of the shard's MySQL servers."
  type        = set(string)

  validation {
    condition     = length(var.security_group_ids) > 0
    error_message = "security_group_ids: specify at least one; the VPC's default group is not for databases."
  }
}

variable "ami_id" {
  description = "ID of the instance's AMI: that of the shard's MySQL servers, or one on which the playbook can configure MySQL."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id: specify ami- and 8 to 17 hexadecimal digits."
  }
}

variable "instance_type" {
  description = "Instance type, such as the primary's."
  type        = string
}

variable "key_name" {
  description = "Name of the key pair that Ansible logs in with. If null, the AMI or Session Manager must provide access."
  type        = string
  default     = null
}

variable "instance_profile" {
  description = "Name of the instance profile. If null, the instance has none."
  type        = string
  default     = null
}

variable "instance_access" {
  description = "Access of a `backstop` on the instance: the module makes a role and an instance profile, named `backstop-recovered-…`, which may read the repository and the one secret, and the program's object in S3 if `package` names it. `permissions_boundary`: ARN of the role's boundary. `managed_policy_arns`: ARNs of further policies, such as that of Session Manager. If null, the module makes none."
  type = object({
    secret_arn           = string
    secret_kms_key_arn   = optional(string)
    bucket               = object({ name = string, prefix = optional(string, ""), kms_key_arn = optional(string) })
    package              = optional(object({ s3_bucket = string, s3_key = string }))
    permissions_boundary = optional(string)
    managed_policy_arns  = optional(set(string), [])
  })
  default = null

  validation {
    condition     = var.instance_access == null || var.instance_profile == null
    error_message = "instance_access: specify either this or instance_profile."
  }

  validation {
    condition     = var.instance_access == null ? true : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*]+$", var.instance_access.secret_arn))
    error_message = "instance_access: specify the full ARN of one secret."
  }
}

variable "user_data" {
  description = "User data of the instance. Every principal that may describe the instance can read it, so it must not contain secrets."
  type        = string
  default     = null
}

variable "root_volume_gib" {
  description = "Size of the root volume in GiB."
  type        = number
  default     = 30
}

variable "volumes" {
  description = "MySQL volumes, each created from a snapshot: all snapshots of one backup, and no others. `device_name`: device name in EC2, from `/dev/sdf` to `/dev/sdp`. `size_gib`: if null, the size of the snapshot. `type`: if null, gp3. `iops`, `throughput_mib`: if null, or if the type does not take them, the defaults of the volume type. `kms_key_id`: if null, the key of the snapshot. `mount_points`: directories of the volume on the source; if empty, the playbook's own setting decides."
  type = list(object({
    snapshot_id    = string
    device_name    = string
    size_gib       = optional(number)
    type           = optional(string, "gp3")
    iops           = optional(number)
    throughput_mib = optional(number)
    kms_key_id     = optional(string)
    mount_points   = optional(list(string), [])
  }))

  validation {
    condition     = length(var.volumes) > 0
    error_message = "volumes: specify at least one snapshot."
  }

  validation {
    condition     = alltrue([for volume in var.volumes : can(regex("^snap-[0-9a-f]{8,17}$", volume.snapshot_id))])
    error_message = "volumes: snapshot_id consists of snap- and 8 to 17 hexadecimal digits."
  }

  validation {
    condition     = alltrue([for volume in var.volumes : can(regex("^/dev/sd[f-p]$", volume.device_name))])
    error_message = "volumes: device_name must be /dev/sdf to /dev/sdp, which EC2 recommends for data volumes."
  }

  validation {
    condition = (
      length(distinct(var.volumes[*].snapshot_id)) == length(var.volumes) &&
      length(distinct(var.volumes[*].device_name)) == length(var.volumes)
    )
    error_message = "volumes: each snapshot and each device name may occur once."
  }

  validation {
    condition     = alltrue([for volume in var.volumes : alltrue([for point in volume.mount_points : can(regex("^/[^\\s,]*$", point))])])
    error_message = "volumes: a mount point is an absolute path without white space and commas."
  }

  validation {
    condition     = length(distinct(flatten(var.volumes[*].mount_points))) == length(flatten(var.volumes[*].mount_points))
    error_message = "volumes: each mount point may occur once."
  }
}

variable "fast_restore_zones" {
  description = "Availability Zones in which EC2 restores the snapshots fast: a volume has its full speed at once. EC2 charges for each snapshot and zone by the hour, until it is off again, and needs up to an hour for each TiB before it is on. If empty, it is off."
  type        = set(string)
  default     = []
}

variable "initialization_rate_mibs" {
  description = "Rate in MiB/s at which EC2 downloads the snapshots' blocks to the volumes, from 100 to 300. EC2 charges for it by the GiB. If null, EC2 loads each block when it is first read, and the server is slow until all blocks are loaded."
  type        = number
  default     = null

  validation {
    condition     = var.initialization_rate_mibs == null ? true : var.initialization_rate_mibs >= 100 && var.initialization_rate_mibs <= 300
    error_message = "initialization_rate_mibs: specify 100 to 300, EC2's limits."
  }
}

variable "check_snapshots" {
  description = "Set to false to skip the checks of the snapshots, for example in a later plan when they may have been pruned."
  type        = bool
  default     = true
}

variable "require_proven" {
  description = "Set to false to accept snapshots whose tag `Backstop-State` is not `proven`. Such a snapshot may have been started without the lock, and its data may differ from its GTID set."
  type        = bool
  default     = true
}

variable "protected" {
  description = "Protect the instance against termination, by Terraform as well. To destroy the recovery, set to false and apply first."
  type        = bool
  default     = true
}

variable "mysql_port" {
  description = "Port of the MySQL server, for the tag `MySQL-Host`."
  type        = number
  default     = 3306
}

variable "ansible_user" {
  description = "Name of the user that Ansible logs in as."
  type        = string
  default     = "ec2-user"
}

variable "connection" {
  description = "Connection of Ansible to the instance: `ssh`, or `ssm` for SSH through Session Manager, which needs no network path to port 22 but an instance profile with the policy `AmazonSSMManagedInstanceCore`."
  type        = string
  default     = "ssh"

  validation {
    condition     = contains(["ssh", "ssm"], var.connection)
    error_message = "connection: specify ssh or ssm."
  }

  validation {
    condition     = var.connection != "ssm" || var.instance_profile != null || var.instance_access != null
    error_message = "connection: ssm needs instance_profile or instance_access, with the policy AmazonSSMManagedInstanceCore."
  }
}

variable "extra_tags" {
  description = "Additional tags of every resource."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.extra_tags), ["MySQL-Host", "Cluster-name", "Backstop-Recovery", "Backstop-Shard", "Name"])) == 0
    error_message = "extra_tags: the module sets MySQL-Host, Cluster-name, Backstop-Recovery, Backstop-Shard and Name."
  }
}
