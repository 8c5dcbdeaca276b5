output "url" {
  description = "URL of the repository."
  value       = trimsuffix("s3://${var.bucket.name}/${var.bucket.prefix}", "/")
}

output "objects" {
  description = "ARN of the repository's objects, without the rest of their keys."
  value       = local.objects
}

output "read_secret" {
  description = "IAM statements for reading the secret."
  value       = local.read_secret
}

output "use_repository" {
  description = "IAM statements for reading and writing objects of the repository."
  value       = local.use_repository
}
