module "access" {
  source = "../shared/repository-access"

  secret_arns         = [var.secret_arn]
  secret_kms_key_arns = compact([var.secret_kms_key_arn])
  repositories        = [var.bucket]
}

locals {
  statements = concat(
    module.access.read_secret,
    module.access.use_repository,
    [
      {
        Sid      = "FetchTheProgram"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["arn:${data.aws_partition.current.partition}:s3:::${var.package.s3_bucket}/${var.package.s3_key}"]
      },
      {
        # Replaced tail segments, and probes. The statement covers the archive of every shard below this prefix, and no backups.
        Sid      = "RemoveReplacedPieces"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${module.access.objects[0]}shards/*/archive/*", "${module.access.objects[0]}probes/*"]
      },
      {
        # `backstop status` reads the state of the backups' snapshots. EC2 supports no resource-level permissions for this action.
        Sid      = "LookAtSnapshots"
        Effect   = "Allow"
        Action   = ["ec2:DescribeSnapshots"]
        Resource = ["*"]
      },
      {
        Sid       = "ReportHealth"
        Effect    = "Allow"
        Action    = ["cloudwatch:PutMetricData"]
        Resource  = ["*"]
        Condition = { StringEquals = { "cloudwatch:namespace" = local.metrics } }
      },
    ],
  )
}

resource "aws_iam_role" "archiver" {
  name        = local.name
  description = "Archives the binlog of the MySQL shard ${var.shard}"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { Service = "ec2.amazonaws.com" }
  }] })
  permissions_boundary = var.permissions_boundary
  tags                 = var.extra_tags
}

resource "aws_iam_role_policy" "archiver" {
  name   = "archive"
  role   = aws_iam_role.archiver.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}

resource "aws_iam_role_policy_attachment" "further" {
  for_each = var.managed_policy_arns

  role       = aws_iam_role.archiver.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "archiver" {
  name = local.name
  role = aws_iam_role.archiver.name
  tags = var.extra_tags
}
