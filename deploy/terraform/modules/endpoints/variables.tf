variable "name" {
  description = "Prefix of the resources' names."
  type        = string
}

variable "vpc_id" {
  description = "ID of the VPC."
  type        = string
}

variable "subnet_ids" {
  description = "IDs of the subnets that get a network interface for each of `services`: one for each Availability Zone."
  type        = set(string)
  default     = []

  validation {
    condition     = length(var.services) == 0 || length(var.subnet_ids) > 0
    error_message = "subnet_ids: the interface endpoints of services need at least one subnet."
  }
}

variable "route_table_ids" {
  description = "IDs of the clients' route tables that get a gateway endpoint of S3. Leave out those that have one: a route table has at most one. If empty, the module creates no gateway endpoint."
  type        = set(string)
  default     = []
}

variable "existing_s3_gateway_id" {
  description = "ID of a gateway endpoint of S3 that the VPC has already, such as `vpce-0123456789abcdef0`. It is used as it is."
  type        = string
  default     = null

  validation {
    condition     = (length(var.route_table_ids) > 0) != (var.existing_s3_gateway_id != null)
    error_message = "existing_s3_gateway_id: specify either this or route_table_ids: without S3's gateway endpoint the repository cannot be reached, and a second one in a route table is refused."
  }
}

variable "services" {
  description = "Services that get an interface endpoint. Leave out those that the VPC has: private DNS allows one of each. The functions call `ec2` and `secretsmanager`. Lambda delivers the logs itself, and the services call KMS. Add `monitoring` for archivers."
  type        = set(string)
  default     = ["ec2", "secretsmanager"]
}

variable "existing_security_group_ids" {
  description = "IDs of the security groups of existing interface endpoints, each under a name. Each gets one rule for all clients."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for id in values(var.existing_security_group_ids) : can(regex("^sg-[0-9a-f]{8,17}$", id))])
    error_message = "existing_security_group_ids: specify sg- and 8 to 17 hexadecimal digits."
  }
}

variable "extra_tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
