variable "secret_arn" {
  description = "ARN of the shard's Secrets Manager secret."
  type        = string
}

variable "secret_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the secret. If null, Secrets Manager's AWS managed key."
  type        = string
}

variable "bucket" {
  description = "S3 bucket of the repository: its name, key prefix and KMS key."
  type = object({
    name        = string
    prefix      = string
    kms_key_arn = optional(string)
  })
}
