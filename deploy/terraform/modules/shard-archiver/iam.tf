locals {
  bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket.name}"
  prefix     = var.bucket.prefix == "" ? "" : "${var.bucket.prefix}/"
  domain     = data.aws_partition.current.dns_suffix

  statements = concat(
    [
      {
        Sid      = "ReadOneSecret"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = [var.secret_arn]
      },
      {
        Sid      = "FetchTheProgram"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["arn:${data.aws_partition.current.partition}:s3:::${var.package.s3_bucket}/${var.package.s3_key}"]
      },
      {
        Sid       = "ListRepository"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = [local.bucket_arn]
        Condition = { StringLike = { "s3:prefix" = local.prefix == "" ? ["*"] : ["${local.prefix}*", var.bucket.prefix] } }
      },
      {
        Sid      = "ReadAndWriteRepository"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
        Resource = ["${local.bucket_arn}/${local.prefix}*"]
      },
      {
        # Tail segments that were replaced, and probes. The archive of every shard below this prefix is in
        # reach of this statement; backups are not.
        Sid      = "RemoveReplacedPieces"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${local.bucket_arn}/${local.prefix}shards/*/archive/*", "${local.bucket_arn}/${local.prefix}probes/*"]
      },
      {
        # `backstop status` asks whether the snapshots of backups are complete. EC2 knows no narrower resource for it.
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
    var.secret_kms_key_arn == null ? [] : [{
      Sid      = "DecryptTheSecret"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = [var.secret_kms_key_arn]
      Condition = { StringEquals = {
        "kms:ViaService"                  = "secretsmanager.${local.region}.${local.domain}"
        "kms:EncryptionContext:SecretARN" = var.secret_arn
      } }
    }],
    var.bucket.kms_key_arn == null ? [] : [{
      Sid       = "EncryptRepository"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [var.bucket.kms_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.${local.domain}" } }
    }],
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
  tags                 = var.tags
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
}
