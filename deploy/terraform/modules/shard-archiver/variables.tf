variable "shard" {
  description = "The shard's name, as Backstop calls it: 1 to 40 of a-z, 0-9, `-`, starting with a letter or digit."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.shard))
    error_message = "shard: use 1 to 40 of a-z, 0-9 and `-`, starting with a letter or digit."
  }
}

variable "cluster_name" {
  description = "The cluster's name in orchestrator. Default: the shard's name."
  type        = string
  default     = null
}

variable "orchestrator_urls" {
  description = "Where orchestrator is: all its nodes."
  type        = list(string)

  validation {
    condition     = length(var.orchestrator_urls) > 0 && alltrue([for url in var.orchestrator_urls : can(regex("^https?://[^\\s\"\\\\]+$", url))])
    error_message = "orchestrator_urls: write at least one, as http://orc1:3000."
  }
}

variable "secret_arn" {
  description = "ARN of the shard's Secrets Manager entry. The instance may read this one entry and no other."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$", var.secret_arn))
    error_message = "secret_arn: write the entry's full ARN (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX)."
  }
}

variable "secret_kms_key_arn" {
  description = "ARN of the KMS key the secret is encrypted with. Null: Secrets Manager's own key."
  type        = string
  default     = null
}

variable "archive" {
  description = "`from`: whose binlog (`primary`, `candidate`, `replica`); `semi_sync`: the primary waits until a commit is archived (then also set what `backstop check --fix` offers); `ack`: what archived means then, `store` or `spool`."
  type = object({
    from      = optional(string, "primary")
    semi_sync = optional(bool, false)
    ack       = optional(string, "store")
  })
  default = {}

  validation {
    condition     = contains(["primary", "candidate", "replica"], var.archive.from) && contains(["store", "spool"], var.archive.ack)
    error_message = "archive: from is primary, candidate or replica; ack is store or spool."
  }

  validation {
    condition     = !var.archive.semi_sync || var.archive.from == "primary"
    error_message = "archive: semi_sync needs from = \"primary\"."
  }
}

variable "package" {
  description = "The `backstop` program (built with the feature `aws`, for the image's architecture) in S3, and its SHA-256 in hexadecimal: a program with another sum is not started."
  type = object({
    s3_bucket = string
    s3_key    = string
    sha256    = string
  })

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package.sha256))
    error_message = "package: sha256 is 64 hexadecimal digits."
  }
}

variable "ami_id" {
  description = "Image of the instance: Amazon Linux 2023, or another with cloud-init, systemd, XFS and the AWS command line."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id: an image's id is ami- and 8 to 17 hexadecimal digits."
  }
}

variable "instance_type" {
  description = "Type of the instance: one with NVMe disks."
  type        = string
  default     = "t3.small"
}

variable "subnet_id" {
  description = "Subnet of the instance, best in another availability zone than the primary's."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the MySQL servers."
  type        = string
}

variable "database_cidr_blocks" {
  description = "Where MySQL and orchestrator are."
  type        = set(string)

  validation {
    condition     = length(var.database_cidr_blocks) > 0 && alltrue([for block in var.database_cidr_blocks : can(cidrhost(block, 0))])
    error_message = "database_cidr_blocks: write blocks such as 10.1.0.0/16, at least one."
  }
}

variable "database_ports" {
  description = "Ports of MySQL and orchestrator."
  type        = set(number)
  default     = [3306, 3000]
}

variable "endpoints" {
  description = "How AWS is reached. `mode` is `nat`: port 443 is open to everywhere; `use`: the VPC's endpoints (`secretsmanager`, `monitoring`, `ec2`, S3's gateway), whose group is `security_group_id`."
  type = object({
    mode              = optional(string, "nat")
    security_group_id = optional(string)
  })
  default = {}

  validation {
    condition     = contains(["nat", "use"], var.endpoints.mode)
    error_message = "endpoints: mode is nat or use."
  }

  validation {
    condition     = var.endpoints.mode != "use" || var.endpoints.security_group_id != null
    error_message = "endpoints: use needs security_group_id, that of the endpoints."
  }
}

variable "bucket" {
  description = "The repository, as for `shard-backup`: the bucket's name, the prefix without a slash at either end, the KMS key if it is encrypted with one of yours."
  type = object({
    name        = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
  })

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket.name))
    error_message = "bucket: the name has 3 to 63 of a-z, 0-9, `.` and `-`."
  }

  validation {
    condition     = var.bucket.prefix == "" || can(regex("^[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*$", var.bucket.prefix))
    error_message = "bucket: prefix has no slash at either end, and of letters, digits, `.`, `_`, `=`, `-` and `/`."
  }
}

variable "spool" {
  description = "The volume for what is streamed and not archived yet. Backstop stops reading at 4 GiB. With `ack = \"spool\"` it holds commits that clients were told of: keep it."
  type = object({
    size_gib   = optional(number, 10)
    type       = optional(string, "gp3")
    kms_key_id = optional(string)
  })
  default = {}

  validation {
    condition     = var.spool.size_gib >= 6
    error_message = "spool: 6 GiB at least; the spool alone can take 4."
  }
}

variable "root_volume_gib" {
  description = "Size of the root volume in GiB, at least the image's."
  type        = number
  default     = 16
}

variable "alarm" {
  description = "`unhealthy_minutes`: the alarm rings when `backstop status` has found something, or nobody has asked it, for so long (5 to 1440). `actions`: ARNs told when an alarm rings or ends."
  type = object({
    unhealthy_minutes = optional(number, 5)
    actions           = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = var.alarm.unhealthy_minutes >= 5 && var.alarm.unhealthy_minutes <= 1440 && floor(var.alarm.unhealthy_minutes) == var.alarm.unhealthy_minutes
    error_message = "alarm: unhealthy_minutes is a whole number from 5 to 1440."
  }
}

variable "key_name" {
  description = "SSH key pair. Null: none."
  type        = string
  default     = null
}

variable "managed_policy_arns" {
  description = "Further policies of the instance, such as that for Session Manager."
  type        = set(string)
  default     = []
}

variable "permissions_boundary" {
  description = "ARN of the policy that bounds the role. Null: none."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything made here."
  type        = map(string)
  default     = {}
}
