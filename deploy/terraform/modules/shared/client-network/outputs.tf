output "security_group_id" {
  description = "ID of the created security group."
  value       = aws_security_group.client.id
}

output "security_group_ids" {
  description = "IDs of the client's security groups: the created one, and that of the endpoints' clients."
  value       = concat([aws_security_group.client.id], var.endpoints.mode == "nat" ? [] : [var.endpoints.client_security_group_id])
}
