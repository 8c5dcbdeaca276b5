variable "name" {
  description = "The bucket's name."
  type        = string
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts objects. Null: S3's own key."
  type        = string
  default     = null
}

variable "noncurrent_days" {
  description = "How long overwritten and deleted objects can be brought back."
  type        = number
  default     = 30
}

variable "force_destroy" {
  description = "True: `terraform destroy` deletes the objects too."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}
}
