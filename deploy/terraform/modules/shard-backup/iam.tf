# Roles of the function, of the schedule and, if `prune_principals` names a principal, of deletion; policies of recoveries.

module "access" {
  source = "../shared/repository-access"

  secret_arns         = [var.secret_arn]
  secret_kms_key_arns = compact([var.secret_kms_key_arn])
  repositories        = [var.bucket]
}

module "policy" {
  source = "../shared/backup-policy"

  own_tags            = { Cluster-name = [local.cluster] }
  read_secret         = module.access.read_secret
  use_repository      = module.access.use_repository
  objects             = module.access.objects
  volume_kms_key_arns = var.volume_kms_key_arns
  volume_tag          = var.volume_tag
  function_arn        = local.function_arn
  log_group_arn       = local.log_group_arn
  queue_arn           = aws_sqs_queue.failed.arn
}

# Of recoveries, and of drills: those may only touch recoveries whose id begins with `drill-`.
module "recovery_policy" {
  source   = "../shared/recovery-policy"
  for_each = { recover = "*", drill = "drill-*" }

  clusters             = [local.cluster]
  recoveries           = each.value
  fast_restores        = each.key == "recover"
  role_arns            = var.recovery_role_arns
  profile_boundary_arn = var.recovery_profile_boundary_arn
  volume_kms_key_arns  = var.volume_kms_key_arns
}

# Of `backstop check --aws`.
module "check_policy" {
  source = "../shared/check-policy"

  key_arns = var.volume_kms_key_arns
}

locals {
  trust = { for service in ["lambda", "scheduler"] : service => {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "${service}.amazonaws.com" }
      # A schedule of another account cannot use the role (confused deputy).
      Condition = service == "lambda" ? {} : { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  } }
}

resource "aws_iam_role" "function" {
  name                 = "${local.name}-function"
  description          = "Backs up the MySQL shard ${var.shard}"
  assume_role_policy   = jsonencode(local.trust["lambda"])
  permissions_boundary = var.permissions_boundary
  tags                 = var.extra_tags
}

resource "aws_iam_role_policy" "function" {
  name   = "backup"
  role   = aws_iam_role.function.id
  policy = jsonencode({ Version = "2012-10-17", Statement = module.policy.function })
}

resource "aws_iam_role" "scheduler" {
  name                 = "${local.name}-scheduler"
  description          = "Invokes the backup of the MySQL shard ${var.shard} on schedule"
  assume_role_policy   = jsonencode(local.trust["scheduler"])
  permissions_boundary = var.permissions_boundary
  tags                 = var.extra_tags
}

resource "aws_iam_role_policy" "scheduler" {
  name = "invoke"
  role = aws_iam_role.scheduler.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "Invoke", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = [local.function_arn] },
    { Sid = "ReportWhatCouldNotBeInvoked", Effect = "Allow", Action = ["sqs:SendMessage"], Resource = [aws_sqs_queue.failed.arn] },
  ] })
}

resource "aws_iam_role" "prune" {
  count = length(var.prune_principals) > 0 ? 1 : 0

  name        = "${local.name}-prune"
  description = "Deletes backups of the MySQL shard ${var.shard}"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { AWS = sort(var.prune_principals) }
  }] })
  permissions_boundary = var.permissions_boundary
  tags                 = var.extra_tags
}

resource "aws_iam_role_policy" "prune" {
  count = length(var.prune_principals) > 0 ? 1 : 0

  name   = "prune"
  role   = aws_iam_role.prune[0].id
  policy = jsonencode({ Version = "2012-10-17", Statement = module.policy.prune })
}
