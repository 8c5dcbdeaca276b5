# Security group of a client of MySQL, orchestrator and AWS: the function of a shard, or its archiver.

locals {
  # Egress rules by name. Rules for endpoints are those of the group of their clients.
  egress = merge(
    { for port in var.database_ports : tostring(port) => { port = port, cidr_blocks = sort(var.database_cidr_blocks), description = "MySQL and orchestrator" } },
    { for name in ["nat"] : name => { port = 443, cidr_blocks = ["0.0.0.0/0"], description = "AWS by a NAT gateway" } if var.endpoints.mode == "nat" },
  )
}

resource "aws_security_group" "client" {
  #checkov:skip=CKV2_AWS_5:attached by the module that calls this one
  name        = var.name
  description = var.description
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_security_group_rule" "egress" {
  for_each = local.egress

  security_group_id = aws_security_group.client.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_blocks       = each.value.cidr_blocks
  description       = each.value.description
}
