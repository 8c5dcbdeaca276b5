output "security_group_id" {
  description = "ID of the security group of the interface endpoints."
  value       = aws_security_group.endpoints.id
}

output "client_security_group_id" {
  description = "ID of the security group that functions and instances join to use the endpoints."
  value       = aws_security_group.clients.id
}

output "endpoint_ids" {
  description = "IDs of the endpoints by service."
  value       = merge({ for service, endpoint in aws_vpc_endpoint.service : service => endpoint.id }, { for endpoint in aws_vpc_endpoint.s3 : "s3" => endpoint.id })
}
