variable "name" {
  description = "Name of the bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.name))
    error_message = "name: the name of a bucket has 3 to 63 of a-z, 0-9, `.` and `-`."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts objects. If null, SSE-S3."
  type        = string
  default     = null
}

variable "noncurrent_days" {
  description = "Days for which overwritten and deleted objects can be restored."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days: specify at least 1."
  }
}

variable "force_destroy" {
  description = "Set to true to let `terraform destroy` delete the objects as well."
  type        = bool
  default     = false
}

variable "extra_tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}
}
