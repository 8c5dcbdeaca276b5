module "endpoints" {
  source = "./endpoints"
  count  = var.endpoints.mode == "create" ? 1 : 0

  name                      = local.name
  vpc_id                    = var.vpc_id
  subnet_ids                = var.subnet_ids
  route_table_ids           = var.endpoints.route_table_ids
  services                  = var.endpoints.services
  client_security_group_ids = { function = module.network.security_group_id }
  tags                      = var.tags
}

locals {
  endpoints_security_group = (
    var.endpoints.mode == "create" ? module.endpoints[0].security_group_id :
    var.endpoints.mode == "use" ? var.endpoints.security_group_id :
    null
  )
}

module "network" {
  source = "../shared/client-network"

  name                 = "${local.name}-function"
  description          = "Backup function of the MySQL shard ${var.shard}"
  vpc_id               = var.vpc_id
  database_cidr_blocks = var.database_cidr_blocks
  database_ports       = var.database_ports
  endpoints            = { mode = var.endpoints.mode, security_group_id = local.endpoints_security_group }
  tags                 = merge(var.tags, { Name = "${local.name}-function" })
}
