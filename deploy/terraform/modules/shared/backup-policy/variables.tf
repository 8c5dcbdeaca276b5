variable "own_tags" {
  description = "Tags, each with its allowed values, by which the snapshots of these shards are known. Snapshots carry them from their creation."
  type        = map(list(string))
}

variable "read_secret" {
  description = "IAM statements for reading the secrets."
  type        = any
}

variable "use_repository" {
  description = "IAM statements for reading and writing the repositories."
  type        = any
}

variable "objects" {
  description = "ARNs of the repositories' objects, without the rest of their keys."
  type        = list(string)
}

variable "volume_kms_key_arns" {
  description = "ARNs of the KMS keys that encrypt the MySQL volumes."
  type        = set(string)
}

variable "volume_tag" {
  description = "Tag that volumes and instances must have; null for none."
  type        = object({ key = string, value = string })
}

variable "function_arn" {
  description = "ARN of the function, without a version."
  type        = string
}

variable "log_group_arn" {
  description = "ARN of the function's log group."
  type        = string
}

variable "queue_arn" {
  description = "ARN of the queue of failed events."
  type        = string
}
