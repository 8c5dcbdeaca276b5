output "urls" {
  description = "URLs of the repositories, in their order."
  value       = [for one in var.repositories : trimsuffix("s3://${one.name}/${one.prefix}", "/")]
}

output "objects" {
  description = "ARNs of the repositories' objects, without the rest of their keys."
  value       = local.objects
}

output "read_secret" {
  description = "IAM statements for reading the secrets."
  value       = local.read_secret
}

output "use_repository" {
  description = "IAM statements for reading and, if `writable`, writing objects of the repositories."
  value       = local.use_repository
}
