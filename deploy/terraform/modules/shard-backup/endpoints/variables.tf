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
  description = "IDs of the subnets' route tables, for the gateway endpoint of S3. If empty, the VPC must have one."
  type        = set(string)
}

variable "services" {
  description = "Services with an interface endpoint. The function calls `ec2` and `secretsmanager`. Lambda delivers the logs itself, and the services call KMS. Add others, such as `logs` or `kms`, for instances in the same subnets."
  type        = set(string)
  default     = ["ec2", "secretsmanager"]
}

variable "existing_security_group_ids" {
  description = "IDs of the security groups of existing interface endpoints, each under a name. Each gets one rule for all clients."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
