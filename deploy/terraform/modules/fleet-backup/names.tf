data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  name          = "backstop-${var.fleet}"
  metrics       = "Backstop/${var.fleet}"
  account       = data.aws_caller_identity.current.account_id
  partition     = data.aws_partition.current.partition
  region        = data.aws_region.current.region
  function_arn  = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${local.name}"
  alias         = "live"
  log_group     = "/aws/lambda/${local.name}"
  log_group_arn = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:${local.log_group}"
}
