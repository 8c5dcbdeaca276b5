variable "shard" {
  description = "The shard's name, as Backstop calls it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{0,62}$", var.shard))
    error_message = "shard: use 1 to 63 of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit."
  }
}

variable "cluster_name" {
  description = "The cluster's name in orchestrator, which the snapshots carry as tag `Cluster-name`. Default: the shard's name."
  type        = string
  default     = null
}

variable "recovery_id" {
  description = "The recovery's id: tag `Backstop-Recovery` of everything made here. One recovery, one state."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", var.recovery_id))
    error_message = "recovery_id: use 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`, starting with a letter or digit."
  }
}

variable "primary_availability_zone" {
  description = "Availability zone of the shard's primary now."
  type        = string
}

variable "availability_zone" {
  description = "Where the instance goes. Another zone than the primary's, so that one zone's loss does not take both."
  type        = string

  validation {
    condition     = var.allow_same_zone || var.availability_zone != var.primary_availability_zone
    error_message = "availability_zone: ${var.availability_zone} is the primary's own; take another zone, or set allow_same_zone if there is none."
  }
}

variable "allow_same_zone" {
  description = "True: the primary's own availability zone is accepted."
  type        = bool
  default     = false
}

variable "subnet_id" {
  description = "Subnet of the instance, in `availability_zone`."
  type        = string
}

variable "security_group_ids" {
  description = "Security groups of the instance: those of the shard's MySQL servers."
  type        = set(string)

  validation {
    condition     = length(var.security_group_ids) > 0
    error_message = "security_group_ids: name at least one; the VPC's default group is not for databases."
  }
}

variable "ami_id" {
  description = "Image of the instance: the one of the shard's MySQL servers, or one that the playbook can install MySQL on."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id: an image's id is ami- and 8 to 17 hexadecimal digits."
  }
}

variable "instance_type" {
  description = "Type of the instance, such as that of the primary."
  type        = string
}

variable "key_name" {
  description = "SSH key pair for Ansible. Null: the image or Session Manager lets Ansible in."
  type        = string
  default     = null
}

variable "instance_profile" {
  description = "Instance profile. Null: none."
  type        = string
  default     = null
}

variable "user_data" {
  description = "User data of the instance. It can be read by everyone who may look at the instance: no secrets."
  type        = string
  default     = null
}

variable "root_volume_gib" {
  description = "Size of the root volume in GiB."
  type        = number
  default     = 30
}

variable "volumes" {
  description = "The MySQL volumes, each from a snapshot: one, or all of a multi-volume set. `device_name` as EC2 names it (`/dev/sdf` to `/dev/sdp`); `size_gib` null: the snapshot's; `iops`, `throughput_mib` null: the type's own. All snapshots of the set, and of no other backup."
  type = list(object({
    snapshot_id    = string
    device_name    = string
    size_gib       = optional(number)
    type           = optional(string, "gp3")
    iops           = optional(number)
    throughput_mib = optional(number)
    kms_key_id     = optional(string)
  }))

  validation {
    condition     = length(var.volumes) > 0
    error_message = "volumes: name at least one snapshot."
  }

  validation {
    condition     = alltrue([for volume in var.volumes : can(regex("^snap-[0-9a-f]{8,17}$", volume.snapshot_id))])
    error_message = "volumes: a snapshot's id is snap- and 8 to 17 hexadecimal digits."
  }

  validation {
    condition     = alltrue([for volume in var.volumes : can(regex("^/dev/sd[f-p]$", volume.device_name))])
    error_message = "volumes: device_name is /dev/sdf to /dev/sdp, which EC2 keeps for data volumes."
  }

  validation {
    condition = (
      length(distinct(var.volumes[*].snapshot_id)) == length(var.volumes) &&
      length(distinct(var.volumes[*].device_name)) == length(var.volumes)
    )
    error_message = "volumes: each snapshot and each device name stands once."
  }
}

variable "initialization_rate_mibs" {
  description = "Rate in MiB/s at which EC2 loads the volumes from their snapshots (100 to 300, paid for by the GiB). Null: blocks are loaded when first read, which makes the server slow until all are."
  type        = number
  default     = null

  validation {
    condition     = var.initialization_rate_mibs == null ? true : var.initialization_rate_mibs >= 100 && var.initialization_rate_mibs <= 300
    error_message = "initialization_rate_mibs: EC2 takes 100 to 300."
  }
}

variable "check_snapshots" {
  description = "False: the snapshots are not looked at. For a later plan, when they may have been pruned."
  type        = bool
  default     = true
}

variable "require_proven" {
  description = "True: only snapshots tagged `Backstop-State` = `proven` are taken. An unproven one may have been begun without the lock: its data need not be that of its GTID."
  type        = bool
  default     = true
}

variable "protected" {
  description = "True: the instance cannot be terminated by mistake, nor by Terraform. Set it false, apply, and only then destroy."
  type        = bool
  default     = true
}

variable "mysql_port" {
  description = "Port of the MySQL server, for the tag `MySQL-Host`."
  type        = number
  default     = 3306
}

variable "ansible_user" {
  description = "Whom Ansible logs in as."
  type        = string
  default     = "ec2-user"
}

variable "tags" {
  description = "Further tags of everything made here."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.tags), ["MySQL-Host", "Cluster-name", "Backstop-Recovery", "Backstop-Shard", "Name"])) == 0
    error_message = "tags: MySQL-Host, Cluster-name, Backstop-Recovery, Backstop-Shard and Name are set by the module."
  }
}
