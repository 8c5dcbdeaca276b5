variable "key_arns" {
  description = "ARNs of the KMS keys that encrypt the volumes."
  type        = set(string)
}
