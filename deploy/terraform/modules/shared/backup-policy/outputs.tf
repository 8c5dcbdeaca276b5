output "function" {
  description = "IAM statements of the role of a function that backs up."
  value       = local.function
}

output "prune" {
  description = "IAM statements of the role that deletes backups."
  value       = local.prune
}
