variable "secret_arns" {
  description = "ARNs of Secrets Manager secrets; `*` at the end for all with the prefix."
  type        = set(string)
}

variable "secret_kms_key_arns" {
  description = "ARNs of the KMS keys that encrypt the secrets. If empty, Secrets Manager's AWS managed key."
  type        = set(string)
}

variable "repositories" {
  description = "Repositories: bucket, key prefix and KMS key of each."
  type = list(object({
    name        = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
  }))
}

variable "writable" {
  description = "Set to false for a role that only reads the repositories."
  type        = bool
  default     = true
}
