# Security group of a client of MySQL, orchestrator and AWS: the function of a shard, or its archiver.

data "aws_region" "current" {}

data "aws_prefix_list" "s3" {
  count = local.has_endpoints ? 1 : 0
  name  = "com.amazonaws.${data.aws_region.current.region}.s3"
}

locals {
  has_endpoints = var.endpoints.mode != "nat"

  # Egress rules by name. Each has one destination.
  egress = merge(
    { for port in var.database_ports : tostring(port) => { port = port, cidr_blocks = sort(var.database_cidr_blocks), description = "MySQL and orchestrator" } },
    local.has_endpoints ? {} : { nat = { port = 443, cidr_blocks = ["0.0.0.0/0"], description = "AWS by a NAT gateway" } },
    local.has_endpoints ? { endpoints = { port = 443, group = var.endpoints.security_group_id, description = "AWS by VPC endpoints" } } : {},
    local.has_endpoints ? { s3 = { port = 443, prefix_list_ids = [data.aws_prefix_list.s3[0].id], description = "S3 by its gateway endpoint" } } : {},
  )
}

resource "aws_security_group" "client" {
  name        = var.name
  description = var.description
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_security_group_rule" "egress" {
  for_each = local.egress

  security_group_id        = aws_security_group.client.id
  type                     = "egress"
  protocol                 = "tcp"
  from_port                = each.value.port
  to_port                  = each.value.port
  cidr_blocks              = try(each.value.cidr_blocks, null)
  prefix_list_ids          = try(each.value.prefix_list_ids, null)
  source_security_group_id = try(each.value.group, null)
  description              = each.value.description
}

# Existing endpoints must allow traffic from this group.
resource "aws_security_group_rule" "into_endpoints" {
  count = var.endpoints.mode == "use" ? 1 : 0

  security_group_id        = var.endpoints.security_group_id
  type                     = "ingress"
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
  source_security_group_id = aws_security_group.client.id
  description              = var.name
}
