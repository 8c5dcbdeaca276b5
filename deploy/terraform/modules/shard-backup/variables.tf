variable "shard" {
  description = "Name of the shard in Backstop: 1 to 40 characters of a-z, 0-9 and `-`, starting with a letter or digit. Names of AWS resources begin with `backstop-` and this name."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.shard))
    error_message = "shard: use 1 to 40 of a-z, 0-9 and `-`, starting with a letter or digit."
  }
}

variable "cluster_name" {
  description = "Name of the cluster in orchestrator, as in the secret. It becomes the tag `Cluster-name` of each snapshot. If null, the name of the shard."
  type        = string
  default     = null
}

variable "secret_arn" {
  description = "ARN of the Secrets Manager secret with the database login, orchestrator's addresses and the name of the cluster. The function can read this secret and no other."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$", var.secret_arn))
    error_message = "secret_arn: specify the secret's full ARN (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX)."
  }
}

variable "secret_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the secret. If null, Secrets Manager's AWS managed key."
  type        = string
  default     = null
}

variable "schedule" {
  description = "Schedule of the backups: `cron(55 23 * * ? *)`, `rate(6 hours)` or, once, `at(2027-01-31T23:55:00)`."
  type        = string

  # The module shared/schedule checks the fields and names the fault.
  validation {
    condition     = can(regex("^\\s*(cron|rate|at)\\(.*\\)\\s*$", var.schedule))
    error_message = "schedule: write cron(minutes hours day-of-month month day-of-week year), rate(6 hours) or at(2027-01-31T23:55:00)."
  }
}

variable "schedule_timezone" {
  description = "IANA name of the time zone of `schedule`. Other commands of Backstop read each schedule in UTC."
  type        = string
  default     = "UTC"
}

variable "window_minutes" {
  description = "Minutes after the scheduled time within which EventBridge Scheduler starts the backup, so that many shards do not start in the same second. 0: at the scheduled time. The backup's occasion is the scheduled time in any case."
  type        = number
  default     = 15

  validation {
    condition     = var.window_minutes >= 0 && var.window_minutes <= 1440 && floor(var.window_minutes) == var.window_minutes
    error_message = "window_minutes: specify a whole number from 0 to 1440, EventBridge Scheduler's limit."
  }
}

variable "schedule_enabled" {
  description = "Set to false to keep the schedule without running it. The alarm on missing backups then takes no actions."
  type        = bool
  default     = true
}

variable "package" {
  description = "Deployment package of the function, with `bootstrap` in it: `path` on this machine, or `s3_bucket`, `s3_key` and, for a versioned bucket, `s3_object_version`. With S3, set `sha256` in base64, so that Terraform detects a new package under the same key."
  type = object({
    path              = optional(string)
    s3_bucket         = optional(string)
    s3_key            = optional(string)
    s3_object_version = optional(string)
    sha256            = optional(string)
  })

  validation {
    condition     = (var.package.path != null) != (var.package.s3_bucket != null && var.package.s3_key != null)
    error_message = "package: specify either path, or s3_bucket and s3_key."
  }
}

variable "architecture" {
  description = "Instruction set architecture of the package: `x86_64` or `arm64`."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture: specify x86_64 or arm64."
  }
}

variable "memory_mb" {
  description = "Memory of the function in MiB. Lambda allocates CPU in proportion."
  type        = number
  default     = 512

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "memory_mb: specify 128 to 10240, Lambda's limits."
  }
}

variable "timeout_seconds" {
  description = "Timeout of the function in seconds. The function starts no freeze that the remaining time might not suffice for."
  type        = number
  default     = 300

  validation {
    condition     = var.timeout_seconds >= 60 && var.timeout_seconds <= 900
    error_message = "timeout_seconds: specify 60 to 900; 900 is Lambda's limit."
  }
}

variable "environment" {
  description = "Additional environment variables of the function, such as `BACKSTOP_LOG`. Once the repository exists, set `BACKSTOP_REPOSITORY_CREATE = never`, so that the function refuses an emptied bucket. Every principal that may describe the function can read them, so they must not contain secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.environment), ["BACKSTOP_REPOSITORY", "BACKSTOP_SNAPSHOT_TAGS"])) == 0
    error_message = "environment: BACKSTOP_REPOSITORY follows from bucket, and BACKSTOP_SNAPSHOT_TAGS from extra_tags."
  }
}

variable "vpc_id" {
  description = "ID of the MySQL servers' VPC."
  type        = string
}

variable "subnet_ids" {
  description = "IDs of the function's subnets, in at least two Availability Zones, from which MySQL and orchestrator can be reached."
  type        = set(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids: specify at least one subnet."
  }
}

variable "database_cidr_blocks" {
  description = "CIDR blocks of MySQL and orchestrator. The function can reach these on `database_ports`, the endpoints and S3 on port 443, and nothing else."
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
  description = "Network path from the subnets to AWS. `mode`: `nat` opens port 443 to all addresses, for a NAT gateway; `use` takes the VPC's endpoints, and joins `client_security_group_id`, an output of the module `endpoints`."
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

variable "security_group_ids" {
  description = "IDs of existing security groups for the function, which must allow MySQL, orchestrator and AWS. If empty, the module creates one. Lambda creates a network interface for each combination of subnet and security groups, and a VPC has a quota of them: many shards should share groups."
  type        = set(string)
  default     = []
}

variable "recovery_role_arns" {
  description = "ARNs of the roles of recovered instances that `recover_policy_json` and `drill_policy_json` allow to pass to EC2. If empty, none."
  type        = set(string)
  default     = []
}

variable "recovery_profile_boundary_arn" {
  description = "ARN of the permissions boundary of the roles that the module `recovered-instance` makes (`instance_access`). The policies of recoveries then allow to make roles with this boundary, named `backstop-recovered-…`, and to pass them to EC2. If null, they do not."
  type        = string
  default     = null
}

variable "bucket" {
  description = "S3 bucket of the repository, such as that of the module `store`: its name, the key prefix without a slash at either end, and the ARN of the KMS key if a customer managed key encrypts the bucket."
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

variable "volume_kms_key_arns" {
  description = "ARNs of the KMS keys that encrypt the MySQL volumes. EC2 uses them on behalf of the function while it creates a snapshot; the function cannot use them itself."
  type        = set(string)
  default     = []
}

variable "volume_tag" {
  description = "Tag that volumes and instances must have for the function to create snapshots of them, for example `{ key = \"Role\", value = \"mysql\" }`. If null, the function can create snapshots of every volume of the account in the Region."
  type = object({
    key   = string
    value = string
  })
  default = null
}

variable "alarm" {
  description = "Alarms. `missing_after_hours`: hours without a completed backup until the alarm state, from 1 to 168; if null, the interval of the schedule, plus `window_minutes`, plus `completion_hours` (168 for a schedule that does not run daily). `completion_hours`: hours from the start of a backup until its snapshots are completed; raise it for large volumes that change a lot. `actions`: ARNs of the actions for a change to or from the alarm state, such as SNS topics."
  type = object({
    missing_after_hours = optional(number)
    completion_hours    = optional(number, 3)
    actions             = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = var.alarm.missing_after_hours == null ? true : var.alarm.missing_after_hours >= 1 && var.alarm.missing_after_hours <= 168 && floor(var.alarm.missing_after_hours) == var.alarm.missing_after_hours
    error_message = "alarm: missing_after_hours is a whole number from 1 to 168."
  }

  validation {
    condition     = var.alarm.missing_after_hours == null || module.schedule.interval_hours == null ? true : var.alarm.missing_after_hours >= module.schedule.interval_hours + var.window_minutes / 60 + var.alarm.completion_hours
    error_message = "alarm: missing_after_hours must be at least the interval of ${var.schedule} (${coalesce(module.schedule.interval_hours, 0)} hours) plus window_minutes plus completion_hours, or the alarm goes off although every backup is completed."
  }
}

variable "prune_principals" {
  description = "ARNs of the IAM users and roles that may assume the role for deleting snapshots and repository objects (`backstop prune`). If empty, the module creates no such role."
  type        = set(string)
  default     = []
}

variable "log_retention_days" {
  description = "Retention of the function's log in days."
  type        = number
  default     = 365
}

variable "log_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the function's log. If null, CloudWatch Logs encrypts it with its own key."
  type        = string
  default     = null
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary of every role. If null, the roles have none."
  type        = string
  default     = null
}

variable "extra_tags" {
  description = "Tags of every resource, and of the snapshots beside Backstop's own, such as a cost centre that your organisation requires."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.extra_tags) : !startswith(key, "Backstop-") && !startswith(lower(key), "aws:") && !contains(["Cluster-name", "GTID", "MySQL-Host", "MySQL-Mount"], key)])
    error_message = "extra_tags: keys must not begin with Backstop- or aws:, or be Cluster-name, GTID, MySQL-Host or MySQL-Mount."
  }
}
