output "security_group_id" {
  description = "ID of the security group of the interface endpoints."
  value       = aws_security_group.endpoints.id
}

output "client_security_group_id" {
  description = "ID of the security group that functions and instances join to use the endpoints."
  value       = aws_security_group.clients.id
}

output "endpoint_ids" {
  description = "IDs of the created endpoints by service, and of S3's gateway endpoint, created or given."
  value       = merge({ for service, endpoint in aws_vpc_endpoint.service : service => endpoint.id }, { for id in concat(aws_vpc_endpoint.s3[*].id, var.existing_s3_gateway_id == null ? [] : [var.existing_s3_gateway_id]) : "s3" => id })
}
