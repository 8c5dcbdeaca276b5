variable "name" {
  description = "Prefix of the resources' names."
  type        = string
}

variable "vpc_id" {
  description = "ID of the VPC."
  type        = string
}

variable "subnet_ids" {
  description = "IDs of the subnets that get a network interface for each service: one for each Availability Zone."
  type        = set(string)
}

variable "route_table_ids" {
  description = "IDs of the subnets' route tables, for the gateway endpoint of S3."
  type        = set(string)
}

variable "services" {
  description = "Services with an interface endpoint. The function calls `ec2` and `secretsmanager`. Lambda delivers the logs itself, and the services call KMS. Add others, such as `logs` or `kms`, for instances in the same subnets."
  type        = set(string)
  default     = ["ec2", "secretsmanager"]
}

variable "client_security_group_ids" {
  description = "IDs of the security groups that may use the interface endpoints, each under a name."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
