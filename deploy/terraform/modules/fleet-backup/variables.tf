variable "fleet" {
  description = "Name of the fleet: 1 to 30 characters of a-z, 0-9 and `-`, starting with a letter or digit. Names of AWS resources begin with `backstop-` and this name."
  type        = string
  default     = "fleet"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,29}$", var.fleet))
    error_message = "fleet: use 1 to 30 of a-z, 0-9 and `-`, starting with a letter or digit."
  }
}

variable "shards" {
  description = "Shards by their names in Backstop. `secret_arn`: ARN of the shard's secret, one of `secret_arns`. `schedule`, `timezone`: as in `shard-backup`. `enabled`: set to false to keep the schedule without running it. `missing_after_hours`: hours without a completed backup until the alarm state; if null, as `alarm` says. `actions`: further actions of the shard's alarm."
  type = map(object({
    secret_arn          = string
    schedule            = string
    timezone            = optional(string, "UTC")
    enabled             = optional(bool, true)
    missing_after_hours = optional(number)
    actions             = optional(set(string), [])
  }))

  validation {
    condition     = alltrue([for shard in keys(var.shards) : can(regex("^[a-z0-9][a-z0-9-]{0,39}$", shard))])
    error_message = "shards: a name has 1 to 40 of a-z, 0-9 and `-`, and starts with a letter or digit."
  }

  validation {
    condition     = alltrue([for one in values(var.shards) : can(regex("^\\s*(cron|rate|at)\\(.*\\)\\s*$", one.schedule))])
    error_message = "shards: write a schedule as cron(minutes hours day-of-month month day-of-week year), rate(6 hours) or at(2027-01-31T23:55:00)."
  }

  validation {
    condition     = alltrue([for one in values(var.shards) : anytrue([for arn in var.secret_arns : one.secret_arn == arn || endswith(arn, "*") && startswith(one.secret_arn, trimsuffix(arn, "*"))])])
    error_message = "shards: each secret_arn must be one of secret_arns, or begin as one that ends with `*`: the function can read no other."
  }

  validation {
    condition     = alltrue([for one in values(var.shards) : one.missing_after_hours == null ? true : one.missing_after_hours >= 1 && one.missing_after_hours <= 168 && floor(one.missing_after_hours) == one.missing_after_hours])
    error_message = "shards: missing_after_hours is a whole number from 1 to 168."
  }
}

variable "secret_arns" {
  description = "ARNs of the shards' secrets, with `*` at the end for all with a prefix. A role's policies have 10,240 characters, which 2,000 ARNs exceed: keep the secrets of a fleet under one prefix."
  type        = set(string)

  validation {
    condition     = length(var.secret_arns) > 0 && length(var.secret_arns) <= 20 && alltrue([for arn in var.secret_arns : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*]+\\*?$", arn))])
    error_message = "secret_arns: specify 1 to 20 ARNs, or beginnings of ARNs and `*`, with at least one character of the name."
  }
}

variable "secret_kms_key_arns" {
  description = "ARNs of the KMS keys that encrypt the secrets. If empty, Secrets Manager's AWS managed key."
  type        = set(string)
  default     = []
}

variable "repositories" {
  description = "Repositories: bucket, key prefix without a slash at either end, and KMS key of each. The first is that of all shards whose secret names no `repository`; the others are those that secrets name."
  type = list(object({
    name        = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
  }))

  validation {
    condition     = length(var.repositories) > 0 && length(var.repositories) <= 20 && alltrue([for one in var.repositories : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", one.name))])
    error_message = "repositories: specify 1 to 20; a bucket's name has 3 to 63 of a-z, 0-9, `.` and `-`."
  }
}

variable "window_minutes" {
  description = "Minutes after the scheduled time within which EventBridge Scheduler starts each backup. With one time for all shards, the window spreads them. 0: at the scheduled time. The backup's occasion is the scheduled time in any case."
  type        = number
  default     = 60

  validation {
    condition     = var.window_minutes >= 0 && var.window_minutes <= 1440 && floor(var.window_minutes) == var.window_minutes
    error_message = "window_minutes: specify a whole number from 0 to 1440, EventBridge Scheduler's limit."
  }
}

variable "concurrency" {
  description = "Reserved concurrent executions: as many backups at a time as this, and no more. Lambda repeats what it throttles for up to an hour."
  type        = number
  default     = 50

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 900
    error_message = "concurrency: specify 1 to 900; Lambda keeps 100 of an account's 1,000 unreserved."
  }
}

variable "release" {
  description = "Version of the function that schedules invoke. Each apply with a new package publishes a version. `stable_version`: if null, the newest; otherwise the number of an earlier version. `canary_weight`: share of the invocations from 0 to 1 that the newest version gets beside `stable_version`."
  type = object({
    stable_version = optional(string)
    canary_weight  = optional(number, 0)
  })
  default = {}

  validation {
    condition     = var.release.stable_version == null ? var.release.canary_weight == 0 : can(regex("^[0-9]+$", var.release.stable_version)) && var.release.canary_weight >= 0 && var.release.canary_weight < 1
    error_message = "release: stable_version is a number, and canary_weight from 0 to below 1 with it; without stable_version there is no canary."
  }
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
    error_message = "environment: BACKSTOP_REPOSITORY follows from repositories, and BACKSTOP_SNAPSHOT_TAGS from extra_tags."
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
  description = "IDs of existing security groups for the function, which must allow MySQL, orchestrator and AWS. If empty, the module creates one."
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
  description = "Alarms. `completion_hours`: hours from the start of a backup until its snapshots are completed. A shard's alarm goes off without a completed backup for the interval of its schedule, plus `window_minutes`, plus this (168 hours for a schedule that does not run daily). `actions`: ARNs of the actions for a change of any alarm."
  type = object({
    completion_hours = optional(number, 3)
    actions          = optional(set(string), [])
  })
  default = {}
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
