variable "name" {
  description = "Name of the function, queues, rule and alarms. One call of the module serves an account and Region."
  type        = string
  default     = "backstop-completion"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.name))
    error_message = "name: use 1 to 40 of a-z, 0-9 and `-`, starting with a letter or digit."
  }
}

variable "secret_arns" {
  description = "ARNs of the shards' secrets, or prefixes of them with `*` at the end. The tag `Backstop-Secret` of a snapshot names one."
  type        = set(string)

  validation {
    condition     = length(var.secret_arns) > 0 && alltrue([for arn in var.secret_arns : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*]+\\*?$", arn))])
    error_message = "secret_arns: specify full ARNs (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX), or the beginning of the name and `*`."
  }
}

variable "secret_kms_key_arns" {
  description = "ARNs of the KMS keys that encrypt the secrets. If empty, Secrets Manager's AWS managed key."
  type        = set(string)
  default     = []
}

variable "repositories" {
  description = "Repositories of the shards: bucket, key prefix without a slash at either end, and KMS key of each. The tag `Backstop-Repository` of a snapshot names one; a prefix may stand for several below it."
  type = list(object({
    name        = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
  }))

  validation {
    condition     = length(var.repositories) > 0 && alltrue([for one in var.repositories : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", one.name))])
    error_message = "repositories: specify at least one bucket; a name has 3 to 63 of a-z, 0-9, `.` and `-`."
  }
}

variable "package" {
  description = "Deployment package of the function, the same as for backups: `path` on this machine, or `s3_bucket`, `s3_key` and, for a versioned bucket, `s3_object_version`. With S3, set `sha256` in base64."
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
  description = "Memory of the function in MiB."
  type        = number
  default     = 256

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "memory_mb: specify 128 to 10240, Lambda's limits."
  }
}

variable "timeout_seconds" {
  description = "Timeout of the function in seconds. A message is hidden from other runs for six times as long."
  type        = number
  default     = 120

  validation {
    condition     = var.timeout_seconds >= 30 && var.timeout_seconds <= 900
    error_message = "timeout_seconds: specify 30 to 900; 900 is Lambda's limit."
  }
}

variable "concurrency" {
  description = "Reserved concurrent executions: as many runs as this, and no more. The queue uses all but one, which is left for the sweep."
  type        = number
  default     = 5

  validation {
    condition     = var.concurrency >= 3 && var.concurrency <= 1000
    error_message = "concurrency: specify 3 to 1000; the queue alone needs 2, Lambda's minimum for a queue."
  }
}

variable "sweep_schedule" {
  description = "Schedule of the sweep, which completes backups whose event was lost, as `rate(…)` or `cron(…)`."
  type        = string
  default     = "rate(30 minutes)"
}

variable "sweep_window_minutes" {
  description = "Minutes after its time within which the sweep starts."
  type        = number
  default     = 10

  validation {
    condition     = var.sweep_window_minutes >= 1 && var.sweep_window_minutes <= 1440
    error_message = "sweep_window_minutes: specify 1 to 1440, EventBridge Scheduler's limits."
  }
}

variable "shard_patterns" {
  description = "Patterns that partition the shards' names, with `*` at either end. CloudWatch may disable a metric filter that makes 1,000 dimensions in an hour: with more than 900 shards give several, such as `*0` to `*9` for names that end with a digit. A name that matches none is never counted as completed, and its alarm goes off."
  type        = set(string)
  default     = ["*"]

  validation {
    condition     = length(var.shard_patterns) > 0 && length(var.shard_patterns) <= 99 && alltrue([for one in var.shard_patterns : can(regex("^\\*?[a-z0-9-]*\\*?$", one)) && one != ""])
    error_message = "shard_patterns: specify 1 to 99 patterns of a-z, 0-9 and `-`, with `*` at either end."
  }
}

variable "subnet_ids" {
  description = "IDs of the function's subnets. If empty, the function is in no VPC: it needs EC2, S3 and Secrets Manager only, and neither MySQL nor orchestrator."
  type        = set(string)
  default     = []

  validation {
    condition     = (length(var.subnet_ids) > 0) == (length(var.security_group_ids) > 0)
    error_message = "subnet_ids: specify security_group_ids as well, or neither."
  }
}

variable "security_group_ids" {
  description = "IDs of the function's security groups, such as that of the clients of the module `endpoints`."
  type        = set(string)
  default     = []
}

variable "environment" {
  description = "Additional environment variables of the function, such as `BACKSTOP_LOG`. They must not contain secrets."
  type        = map(string)
  default     = {}
}

variable "alarm_actions" {
  description = "ARNs of the actions for a change of an alarm, such as SNS topics."
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
  description = "ARN of the permissions boundary of the roles. If null, they have none."
  type        = string
  default     = null
}

variable "extra_tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
