data "aws_region" "current" {}

data "aws_prefix_list" "s3" {
  name = "com.amazonaws.${data.aws_region.current.region}.s3"
}

resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "AWS services by VPC endpoints"
  vpc_id      = var.vpc_id
  tags        = merge(var.extra_tags, { Name = "${var.name}-endpoints" })
}

# Functions and instances join this group. So the number of rules does not grow with the number of shards: a security group
# has 60 rules by default. https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html
resource "aws_security_group" "clients" {
  #checkov:skip=CKV2_AWS_5:functions and instances of other modules join it
  name        = "${var.name}-endpoint-clients"
  description = "Clients of AWS services by VPC endpoints"
  vpc_id      = var.vpc_id
  tags        = merge(var.extra_tags, { Name = "${var.name}-endpoint-clients" })
}

locals {
  # Groups of the endpoints: the one created here, and those of existing endpoints.
  groups = merge({ created = aws_security_group.endpoints.id }, { for name, id in var.existing_security_group_ids : "existing-${name}" => id })
}

resource "aws_security_group_rule" "from_clients" {
  for_each = local.groups

  security_group_id        = each.value
  type                     = "ingress"
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
  source_security_group_id = aws_security_group.clients.id
  description              = "Clients of VPC endpoints"
}

resource "aws_security_group_rule" "to_endpoints" {
  for_each = local.groups

  security_group_id        = aws_security_group.clients.id
  type                     = "egress"
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
  source_security_group_id = each.value
  description              = "AWS by VPC endpoints"
}

resource "aws_security_group_rule" "to_s3" {
  security_group_id = aws_security_group.clients.id
  type              = "egress"
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_ids   = [data.aws_prefix_list.s3.id]
  description       = "S3 by its gateway endpoint"
}

resource "aws_vpc_endpoint" "service" {
  for_each = var.services

  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${data.aws_region.current.region}.${each.value}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true
  tags                = merge(var.extra_tags, { Name = "${var.name}-${each.value}" })
}

# The endpoint is for route tables without one: EC2 refuses a second route to S3.
# https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html
resource "aws_vpc_endpoint" "s3" {
  count = length(var.route_table_ids) > 0 ? 1 : 0

  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.current.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_table_ids
  tags              = merge(var.extra_tags, { Name = "${var.name}-s3" })
}
