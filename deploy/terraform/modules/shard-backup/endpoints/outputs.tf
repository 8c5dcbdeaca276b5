output "security_group_id" {
  description = "ID of the security group of the interface endpoints."
  value       = aws_security_group.endpoints.id
}

output "endpoint_ids" {
  description = "IDs of the endpoints by service."
  value       = merge({ for service, endpoint in aws_vpc_endpoint.service : service => endpoint.id }, { s3 = aws_vpc_endpoint.s3.id })
}
