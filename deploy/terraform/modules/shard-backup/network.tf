module "endpoints" {
  source = "./endpoints"
  count  = var.endpoints.mode == "create" ? 1 : 0

  name                      = local.name
  vpc_id                    = var.vpc_id
  subnet_ids                = var.subnet_ids
  route_table_ids           = var.endpoints.route_table_ids
  services                  = var.endpoints.services
  client_security_group_ids = { function = aws_security_group.function.id }
  tags                      = var.tags
}

data "aws_prefix_list" "s3" {
  count = local.has_endpoints ? 1 : 0
  name  = "com.amazonaws.${local.region}.s3"
}

locals {
  has_endpoints = var.endpoints.mode != "nat"
  endpoints_security_group = (
    var.endpoints.mode == "create" ? module.endpoints[0].security_group_id :
    var.endpoints.mode == "use" ? var.endpoints.security_group_id :
    null
  )
}

resource "aws_security_group" "function" {
  name        = "${local.name}-function"
  description = "Backup function of the MySQL shard ${var.shard}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${local.name}-function" })
}

resource "aws_security_group_rule" "databases" {
  for_each = { for port in var.database_ports : tostring(port) => port }

  security_group_id = aws_security_group.function.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_blocks       = sort(var.database_cidr_blocks)
  description       = "MySQL and orchestrator"
}

resource "aws_security_group_rule" "endpoints" {
  count = local.has_endpoints ? 1 : 0

  security_group_id        = aws_security_group.function.id
  type                     = "egress"
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
  source_security_group_id = local.endpoints_security_group
  description              = "AWS by VPC endpoints"
}

# Endpoints that are there must let this function in.
resource "aws_security_group_rule" "into_endpoints" {
  count = var.endpoints.mode == "use" ? 1 : 0

  security_group_id        = var.endpoints.security_group_id
  type                     = "ingress"
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
  source_security_group_id = aws_security_group.function.id
  description              = "${local.name}-function"
}

resource "aws_security_group_rule" "s3" {
  count = local.has_endpoints ? 1 : 0

  security_group_id = aws_security_group.function.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_ids   = [data.aws_prefix_list.s3[0].id]
  description       = "S3 by its gateway endpoint"
}

resource "aws_security_group_rule" "aws_by_nat" {
  count = local.has_endpoints ? 0 : 1

  security_group_id = aws_security_group.function.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_blocks       = ["0.0.0.0/0"]
  description       = "AWS by a NAT gateway"
}
