module "endpoints" {
  source = "./endpoints"
  count  = var.endpoints.mode == "create" ? 1 : 0

  name                        = local.name
  vpc_id                      = var.vpc_id
  subnet_ids                  = var.subnet_ids
  route_table_ids             = var.endpoints.route_table_ids
  services                    = var.endpoints.services
  existing_security_group_ids = var.endpoints.existing_security_group_ids
  tags                        = var.tags
}

locals {
  endpoint_clients = var.endpoints.mode == "create" ? module.endpoints[0].client_security_group_id : var.endpoints.client_security_group_id
  security_groups  = length(var.security_group_ids) > 0 ? sort(var.security_group_ids) : module.network[0].security_group_ids
}

module "network" {
  source = "../shared/client-network"
  count  = length(var.security_group_ids) > 0 ? 0 : 1

  name                 = "${local.name}-function"
  description          = "Backup function of the MySQL shard ${var.shard}"
  vpc_id               = var.vpc_id
  database_cidr_blocks = var.database_cidr_blocks
  database_ports       = var.database_ports
  endpoints            = { mode = var.endpoints.mode, client_security_group_id = local.endpoint_clients }
  tags                 = merge(var.tags, { Name = "${local.name}-function" })
}
