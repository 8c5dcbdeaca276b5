variable "shard" {
  description = "Name of the shard in Backstop: 1 to 40 characters of a-z, 0-9 and `-`, starting with a letter or digit."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.shard))
    error_message = "shard: use 1 to 40 of a-z, 0-9 and `-`, starting with a letter or digit."
  }
}

variable "cluster_name" {
  description = "Name of the cluster in orchestrator. If null, the name of the shard."
  type        = string
  default     = null
}

variable "orchestrator_urls" {
  description = "URLs of all orchestrator nodes."
  type        = list(string)

  validation {
    condition     = length(var.orchestrator_urls) > 0 && alltrue([for url in var.orchestrator_urls : can(regex("^https?://[^\\s\"\\\\]+$", url))])
    error_message = "orchestrator_urls: specify at least one URL, such as http://orc1:3000."
  }
}

variable "secret_arn" {
  description = "ARN of the shard's Secrets Manager secret. The instance can read this secret and no other."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$", var.secret_arn))
    error_message = "secret_arn: specify the secret's full ARN (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX)."
  }
}

variable "secret_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the secret. If null, Secrets Manager's AWS managed key."
  type        = string
  default     = null
}

variable "archive" {
  description = "Options of the archive. `from`: role of the server that is streamed from, `primary`, `candidate` or `replica`. `semi_sync`: let the primary wait until each commit is archived; then also apply the settings that `backstop check --fix` offers. `ack`: place where a commit must be durable to be acknowledged, `store` or `spool`."
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
  description = "Program `backstop` in S3, built with the feature `aws` for the architecture of the AMI, and its SHA-256 checksum in hexadecimal. The instance does not start a program with another checksum."
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
  description = "ID of the instance's AMI: Amazon Linux 2023, or another with cloud-init, systemd, XFS and the AWS CLI."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id: specify ami- and 8 to 17 hexadecimal digits."
  }
}

variable "instance_type" {
  description = "Instance type, with NVMe devices."
  type        = string
  default     = "t3.small"
}

variable "subnet_id" {
  description = "ID of the instance's subnet, preferably in another Availability Zone than the primary."
  type        = string
}

variable "vpc_id" {
  description = "ID of the MySQL servers' VPC."
  type        = string
}

variable "database_cidr_blocks" {
  description = "CIDR blocks of MySQL and orchestrator."
  type        = set(string)

  validation {
    condition     = length(var.database_cidr_blocks) > 0 && alltrue([for block in var.database_cidr_blocks : can(cidrhost(block, 0))])
    error_message = "database_cidr_blocks: specify at least one block, such as 10.1.0.0/16."
  }
}

variable "database_ports" {
  description = "Ports of MySQL and orchestrator."
  type        = set(number)
  default     = [3306, 3000]
}

variable "endpoints" {
  description = "Network path to AWS. `mode`: `nat` opens port 443 to all addresses; `use` takes the VPC's endpoints (`secretsmanager`, `monitoring`, `ec2` and the gateway endpoint of S3), and joins `client_security_group_id`, the group whose members may use them."
  type = object({
    mode                     = optional(string, "nat")
    client_security_group_id = optional(string)
  })
  default = {}

  validation {
    condition     = contains(["nat", "use"], var.endpoints.mode)
    error_message = "endpoints: mode must be nat or use."
  }

  validation {
    condition     = var.endpoints.mode != "use" || var.endpoints.client_security_group_id != null
    error_message = "endpoints: mode use needs client_security_group_id, the group whose members may use the endpoints."
  }
}

variable "bucket" {
  description = "S3 bucket of the repository, as for `shard-backup`: its name, the key prefix without a slash at either end, and the ARN of the KMS key if a customer managed key encrypts the bucket."
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
    error_message = "bucket: the prefix has no slash at either end, and consists of letters, digits, `.`, `_`, `=`, `-` and `/`."
  }
}

variable "spool" {
  description = "Volume for transactions that are streamed and not yet archived. Backstop stops reading at 4 GiB. With `ack = \"spool\"` it holds acknowledged commits: keep it."
  type = object({
    size_gib   = optional(number, 10)
    type       = optional(string, "gp3")
    kms_key_id = optional(string)
  })
  default = {}

  validation {
    condition     = var.spool.size_gib >= 6
    error_message = "spool: size_gib must be at least 6; the transactions alone can take 4 GiB."
  }
}

variable "root_volume_gib" {
  description = "Size of the root volume in GiB, at least that of the AMI."
  type        = number
  default     = 16
}

variable "alarm" {
  description = "Alarm. `unhealthy_minutes`: minutes of problems found by `backstop status`, or without a report, until the alarm state, from 5 to 1440. `actions`: ARNs of the actions for a change to or from the alarm state."
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
  description = "Name of the key pair for SSH. If null, none."
  type        = string
  default     = null
}

variable "managed_policy_arns" {
  description = "ARNs of additional managed policies of the instance's role, such as the policy for Session Manager."
  type        = set(string)
  default     = []
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary of the role. If null, the role has none."
  type        = string
  default     = null
}

variable "extra_tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
