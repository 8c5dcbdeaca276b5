variable "name" {
  description = "Names of what is made here begin with this."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets that get a network interface for each service; one for each availability zone."
  type        = set(string)
}

variable "route_table_ids" {
  description = "Route tables of the subnets, for S3's gateway."
  type        = set(string)
}

variable "services" {
  description = "Services with an interface endpoint. The function calls `ec2` and `secretsmanager`; Lambda itself brings logs out, and KMS is called by the services. `logs`, `kms` and others can be added for instances in the same subnets."
  type        = set(string)
  default     = ["ec2", "secretsmanager"]
}

variable "client_security_group_ids" {
  description = "Security groups that may use the interface endpoints, each under a name."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of everything made here."
  type        = map(string)
  default     = {}
}
