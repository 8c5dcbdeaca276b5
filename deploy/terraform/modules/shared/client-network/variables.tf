variable "name" {
  description = "Name of the security group."
  type        = string
}

variable "description" {
  description = "Description of the security group."
  type        = string
}

variable "vpc_id" {
  description = "ID of the VPC."
  type        = string
}

variable "database_cidr_blocks" {
  description = "CIDR blocks of MySQL and orchestrator."
  type        = set(string)
}

variable "database_ports" {
  description = "Ports of MySQL and orchestrator."
  type        = set(number)
}

variable "endpoints" {
  description = "Network path to AWS. `mode`: `nat` or `use`. `client_security_group_id`: group whose members may use the endpoints, unless `mode` is `nat`."
  type = object({
    mode                     = string
    client_security_group_id = optional(string)
  })
}

variable "tags" {
  description = "Tags of the security group."
  type        = map(string)
}
