variable "name" {
  description = "Name of the bucket."
  type        = string
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
}

variable "force_destroy" {
  description = "Set to true to let `terraform destroy` delete the objects as well."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}
}
