variable "shard" {
  description = "The shard's name, as Backstop calls it: 1 to 40 of a-z, 0-9, `-`, starting with a letter or digit. Names of AWS resources begin with `backstop-` and this."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.shard))
    error_message = "shard: use 1 to 40 of a-z, 0-9 and `-`, starting with a letter or digit."
  }
}

variable "cluster_name" {
  description = "The cluster's name in orchestrator, which becomes the tag `Cluster-name` of each snapshot. It must be the one in the secret. Default: the shard's name."
  type        = string
  default     = null
}

variable "secret_arn" {
  description = "ARN of the Secrets Manager entry with the database login, orchestrator's addresses and the cluster's name. The function may read this one entry and no other."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$", var.secret_arn))
    error_message = "secret_arn: write the entry's full ARN (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX)."
  }
}

variable "secret_kms_key_arn" {
  description = "ARN of the KMS key the secret is encrypted with. Null: Secrets Manager's own key."
  type        = string
  default     = null
}

variable "schedule" {
  description = "When to back up: `cron(55 23 * * ? *)`, `rate(6 hours)` or, once only, `at(2027-01-31T23:55:00)`."
  type        = string

  # Its fields are read in ./schedule, which says what is wrong with which.
  validation {
    condition     = can(regex("^\\s*(cron|rate|at)\\(.*\\)\\s*$", var.schedule))
    error_message = "schedule: write cron(minutes hours day-of-month month day-of-week year), rate(6 hours) or at(2027-01-31T23:55:00)."
  }
}

variable "schedule_timezone" {
  description = "IANA name of the time zone of `schedule`. Backstop's other commands take every schedule as UTC."
  type        = string
  default     = "UTC"
}

variable "schedule_enabled" {
  description = "False: the schedule is kept but does not fire, and the alarm on missing success is silent."
  type        = bool
  default     = true
}

variable "package" {
  description = "The function's zip, with `bootstrap` in it: `path` on this machine, or `s3_bucket`, `s3_key` and (for a versioned bucket) `s3_object_version`. `sha256`, in base64, is needed with S3 for a new zip under an old key to be noticed."
  type = object({
    path              = optional(string)
    s3_bucket         = optional(string)
    s3_key            = optional(string)
    s3_object_version = optional(string)
    sha256            = optional(string)
  })

  validation {
    condition     = (var.package.path != null) != (var.package.s3_bucket != null && var.package.s3_key != null)
    error_message = "package: give either path, or s3_bucket and s3_key."
  }
}

variable "architecture" {
  description = "What the zip was built for: `x86_64` or `arm64`."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture: write x86_64 or arm64."
  }
}

variable "memory_mb" {
  description = "Memory of the function in MiB. Processor share grows with it."
  type        = number
  default     = 512

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "memory_mb: Lambda takes 128 to 10240."
  }
}

variable "timeout_seconds" {
  description = "Longest run of the function. It begins no freeze for which too little time is left."
  type        = number
  default     = 300

  validation {
    condition     = var.timeout_seconds >= 60 && var.timeout_seconds <= 900
    error_message = "timeout_seconds: write 60 to 900; 900 is Lambda's limit."
  }
}

variable "environment" {
  description = "Further environment variables of the function, such as `BACKSTOP_LOG`; `BACKSTOP_REPOSITORY_CREATE = never` once the repository is there, so that an empty bucket is never taken for it. No secrets: they can be read by everyone who may look at the function."
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(keys(var.environment), "BACKSTOP_REPOSITORY")
    error_message = "environment: BACKSTOP_REPOSITORY follows from bucket."
  }
}

variable "vpc_id" {
  description = "VPC of the MySQL servers."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets that the function runs in. Take two availability zones or more, from which MySQL and orchestrator can be reached."
  type        = set(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids: name at least one subnet."
  }
}

variable "database_cidr_blocks" {
  description = "Where MySQL and orchestrator are. The function can reach these on `database_ports`, the endpoints and S3 on 443, and nothing else."
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
  description = "How AWS is reached from the subnets. `mode` is `nat`: port 443 is open to everywhere, for a NAT gateway; `create`: an interface endpoint for each of `services`, and S3's gateway in `route_table_ids`; `use`: those that are there, whose group is `security_group_id`. A VPC holds each endpoint once, so one shard creates them and the others use them."
  type = object({
    mode              = optional(string, "nat")
    services          = optional(set(string), ["ec2", "secretsmanager"])
    route_table_ids   = optional(set(string), [])
    security_group_id = optional(string)
  })
  default = {}

  validation {
    condition     = contains(["nat", "create", "use"], var.endpoints.mode)
    error_message = "endpoints: mode is nat, create or use."
  }

  validation {
    condition     = var.endpoints.mode != "create" || length(var.endpoints.route_table_ids) > 0
    error_message = "endpoints: create needs route_table_ids, those of subnet_ids: without S3's gateway the repository cannot be reached."
  }

  validation {
    condition     = var.endpoints.mode != "use" || var.endpoints.security_group_id != null
    error_message = "endpoints: use needs security_group_id, that of the endpoints."
  }
}

variable "bucket" {
  description = "The repository's bucket. `create`: make it, versioned and encrypted (with `kms_key_arn`, else with S3's own key); false: it is there, with these properties. `prefix`: where in the bucket, without a slash at either end. `noncurrent_days`: how long overwritten and deleted objects can be brought back. `force_destroy`: `terraform destroy` deletes all backups' manifests and archives with it."
  type = object({
    name            = string
    create          = optional(bool, false)
    prefix          = optional(string, "")
    kms_key_arn     = optional(string)
    noncurrent_days = optional(number, 30)
    force_destroy   = optional(bool, false)
  })

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket.name))
    error_message = "bucket: the name has 3 to 63 of a-z, 0-9, `.` and `-`."
  }

  validation {
    condition     = var.bucket.prefix == "" || can(regex("^[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*$", var.bucket.prefix))
    error_message = "bucket: prefix has no slash at either end, and of letters, digits, `.`, `_`, `=`, `-` and `/`."
  }

  validation {
    condition     = var.bucket.noncurrent_days >= 1
    error_message = "bucket: noncurrent_days is at least 1."
  }
}

variable "volume_kms_key_arns" {
  description = "ARNs of the KMS keys that the MySQL volumes are encrypted with. EC2 uses them on the function's behalf while it starts a snapshot; the function itself cannot."
  type        = set(string)
  default     = []
}

variable "volume_tag" {
  description = "Only volumes and instances with this tag may be snapshotted (`{ key = \"Role\", value = \"mysql\" }`). Null: any volume of the account and region."
  type = object({
    key   = string
    value = string
  })
  default = null
}

variable "alarm" {
  description = "`missing_after_hours`: the alarm rings when no backup has succeeded for so long (at most 168, as CloudWatch looks back a week; above the schedule's interval plus the longest run). `actions`: ARNs told when an alarm rings or ends, such as SNS topics."
  type = object({
    missing_after_hours = optional(number, 26)
    actions             = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = var.alarm.missing_after_hours >= 1 && var.alarm.missing_after_hours <= 168 && floor(var.alarm.missing_after_hours) == var.alarm.missing_after_hours
    error_message = "alarm: missing_after_hours is a whole number from 1 to 168."
  }

  validation {
    condition     = module.schedule.interval_hours == null ? true : var.alarm.missing_after_hours > module.schedule.interval_hours
    error_message = "alarm: missing_after_hours (${var.alarm.missing_after_hours}) must be above the interval of ${var.schedule} (${coalesce(module.schedule.interval_hours, 0)} hours), or it rings although every backup succeeds."
  }
}

variable "prune_principals" {
  description = "ARNs of the users and roles that may take the role which deletes snapshots and repository objects (`backstop prune`). Empty: there is no such role."
  type        = set(string)
  default     = []
}

variable "log_retention_days" {
  description = "How long the function's log is kept."
  type        = number
  default     = 90
}

variable "log_kms_key_arn" {
  description = "ARN of the KMS key for the function's log. Null: CloudWatch's own."
  type        = string
  default     = null
}

variable "permissions_boundary" {
  description = "ARN of the policy that bounds every role made here. Null: none."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything made here. Snapshots get Backstop's tags, not these."
  type        = map(string)
  default     = {}
}
