variable "key_arns" {
  description = "ARNs of the KMS keys of the volumes."
  type        = set(string)
}
