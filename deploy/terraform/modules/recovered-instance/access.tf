# Role of a `backstop` on the instance.

module "access" {
  source = "../shared/repository-access"
  count  = var.instance_access == null ? 0 : 1

  secret_arns         = [var.instance_access.secret_arn]
  secret_kms_key_arns = compact([var.instance_access.secret_kms_key_arn])
  repositories        = [var.instance_access.bucket]
  writable            = false
}

data "aws_partition" "current" {}

locals {
  # A name of IAM has at most 64 characters.
  profile_name = substr("backstop-recovered-${substr(sha256(local.name), 0, 8)}-${local.name}", 0, 64)
}

resource "aws_iam_role" "instance" {
  count = var.instance_access == null ? 0 : 1

  name        = local.profile_name
  description = "Reads the backups of the MySQL shard ${var.shard} for the recovery ${var.recovery_id}"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { Service = "ec2.amazonaws.com" }
  }] })
  permissions_boundary = var.instance_access.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "instance" {
  count = var.instance_access == null ? 0 : 1

  name = "recover"
  role = aws_iam_role.instance[0].id
  policy = jsonencode({ Version = "2012-10-17", Statement = concat(
    module.access[0].read_secret,
    module.access[0].use_repository,
    [for one in [var.instance_access.package] : {
      Sid      = "FetchTheProgram"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["arn:${data.aws_partition.current.partition}:s3:::${one.s3_bucket}/${one.s3_key}"]
    } if one != null],
  ) })
}

resource "aws_iam_role_policy_attachment" "further" {
  for_each = toset(var.instance_access == null ? [] : var.instance_access.managed_policy_arns)

  role       = aws_iam_role.instance[0].name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "instance" {
  count = var.instance_access == null ? 0 : 1

  name = local.profile_name
  role = aws_iam_role.instance[0].name
  tags = local.tags
}
