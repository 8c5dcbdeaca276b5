variable "clusters" {
  description = "Names of the clusters, or patterns of them, in the tag `Cluster-name` of snapshots and recoveries."
  type        = list(string)
}

variable "recoveries" {
  description = "Pattern of the ids of the recoveries, in the tag `Backstop-Recovery`."
  type        = string
}

variable "role_arns" {
  description = "ARNs of the roles that may be passed to instances."
  type        = set(string)
}

variable "profile_boundary_arn" {
  description = "ARN of the permissions boundary of the roles that the module `recovered-instance` makes for instances; null if it makes none."
  type        = string
}

variable "volume_kms_key_arns" {
  description = "ARNs of the KMS keys that encrypt the MySQL volumes."
  type        = set(string)
}

variable "fast_restores" {
  description = "Allow fast snapshot restore of the snapshots, which EC2 charges for by the hour."
  type        = bool
}
