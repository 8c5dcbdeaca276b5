locals {
  security_groups = length(var.security_group_ids) > 0 ? sort(var.security_group_ids) : module.network[0].security_group_ids
}

module "network" {
  source = "../shared/client-network"
  count  = length(var.security_group_ids) > 0 ? 0 : 1

  name                 = "${local.name}-function"
  description          = "Backup function of the MySQL shard ${var.shard}"
  vpc_id               = var.vpc_id
  database_cidr_blocks = var.database_cidr_blocks
  database_ports       = var.database_ports
  endpoints            = var.endpoints
  tags                 = merge(var.extra_tags, { Name = "${local.name}-function" })
}
